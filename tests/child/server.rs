//! The MCP server itself: the two eras, and the tools by which a test sees what it was sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use open_mcp_auth_proxy::mcp::message::{Kind, Message};
use serde_json::{Value, json};

use crate::deed::{Deed, How};
use crate::wire::{self, error};

const MODERN: &str = "2026-07-28";
const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const SEEN_MAX: usize = 4096;

/// What it speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Era {
    Legacy,
    Modern,
    /// Whatever it is opened with, and from then on nothing else, as the official server does.
    Dual,
}

impl Era {
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "legacy" => Self::Legacy,
            "modern" => Self::Modern,
            "dual" => Self::Dual,
            _ => panic!("{word} is no era"),
        }
    }
}

pub(crate) struct Server {
    at: Vec<(String, Vec<Deed>)>,
    state: Mutex<State>,
}

struct State {
    era: Era,
    seen: VecDeque<String>,
    /// Requests of ours that wait for the client, and the request that each belongs to.
    asked: BTreeMap<String, String>,
    asks: u64,
    /// Listen requests by their id, with what they asked for.
    listening: BTreeMap<String, Value>,
}

/// A request, as far as a tool looks at it.
struct Call<'a> {
    id: &'a str,
    modern: bool,
    params: &'a Value,
}

impl Server {
    pub(crate) fn new(era: Era, at: Vec<(String, Vec<Deed>)>) -> Self {
        let state =
            State { era, seen: VecDeque::new(), asked: BTreeMap::new(), asks: 0, listening: BTreeMap::new() };
        Self { at, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the script says for this moment.
    pub(crate) fn at(&self, moment: &str, token: Option<&Value>) -> How {
        let mut how = How::default();
        for (_, deeds) in self.at.iter().filter(|(at, _)| at == moment) {
            deeds.iter().cloned().for_each(|deed| deed.commit(token, &mut how));
        }
        how
    }

    /// Takes one line. What is no message is ignored, as the official servers do.
    pub(crate) fn take(&self, line: &str) {
        let mut state = self.state();
        if state.seen.len() == SEEN_MAX {
            state.seen.pop_front();
        }
        state.seen.push_back(line.to_owned());
        drop(state);
        let Ok(Message::One(rpc)) = Message::read(line.as_bytes()) else { return };
        let body: Value = serde_json::from_str(line).unwrap();
        let none = json!({});
        let params = body.get("params").unwrap_or(&none);
        match (rpc.kind, rpc.id) {
            (Kind::Request, Some(id)) => self.answer(&rpc.method, id, params),
            (Kind::Notification, _) => self.notice(&rpc.method, params),
            (Kind::Response, Some(id)) => self.conclude(id, &body),
            _ => {}
        }
    }

    fn answer(&self, method: &str, id: &str, params: &Value) {
        let token = params.pointer("/_meta/progressToken");
        let mut how = self.at(method, token);
        let modern = params["_meta"].get(VERSION).is_some();
        if let Err(refused) = self.enter(method, modern, params) {
            return how.give(id, Err(refused));
        }
        let modern = modern && self.state().era != Era::Legacy;
        let call = Call { id, modern, params };
        if let Some(outcome) = self.dispatch(method, &call, &mut how) {
            how.give(id, outcome.map(|result| dress(method, modern, result)));
        }
    }

    /// The era is decided by what comes first, and stays.
    fn enter(&self, method: &str, modern: bool, params: &Value) -> Result<(), Value> {
        let mut state = self.state();
        if state.era == Era::Dual && method != "server/discover" {
            state.era = if modern { Era::Modern } else { Era::Legacy };
        }
        let supported = json!({"supported": [MODERN], "requested": params["protocolVersion"]});
        match state.era {
            Era::Modern if !modern && method == "initialize" => {
                Err(error(-32022, "no such protocol version", supported))
            }
            Era::Modern if !modern => Err(error(-32602, "_meta must name the protocol version", Value::Null)),
            Era::Modern | Era::Dual if params["_meta"][VERSION] != MODERN => {
                let requested = &params["_meta"][VERSION];
                let data = json!({"supported": [MODERN], "requested": requested});
                Err(error(-32022, "no such protocol version", data))
            }
            Era::Legacy if matches!(method, "server/discover" | "subscriptions/listen") => {
                Err(error(-32601, "no such method", Value::Null))
            }
            Era::Modern if matches!(method, "ping" | "logging/setLevel" | "resources/subscribe") => {
                Err(error(-32601, "no such method", Value::Null))
            }
            _ => Ok(()),
        }
    }

    /// `None` where the answer comes later.
    fn dispatch(&self, method: &str, call: &Call<'_>, how: &mut How) -> Option<Result<Value, Value>> {
        Some(match method {
            "initialize" => {
                let asked = call.params["protocolVersion"].as_str().unwrap_or_default();
                let version = LEGACY.iter().find(|known| **known == asked).unwrap_or(&LEGACY[3]);
                Ok(json!({"protocolVersion": version, "capabilities": capabilities(false),
                    "serverInfo": {"name": "scripted-child", "version": "1.0.0"}, "instructions": "be told"}))
            }
            "server/discover" => {
                Ok(json!({"supportedVersions": [MODERN], "capabilities": capabilities(true),
                "instructions": "be told",
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "scripted-child", "version": "1.0.0"}}}))
            }
            "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => Ok(json!({})),
            "tools/list" => Ok(tools()),
            "tools/call" => return self.call(call, how),
            "resources/list" => {
                Ok(json!({"resources": [{"uri": "test://a", "name": "a", "mimeType": "text/plain"}]}))
            }
            "resources/templates/list" => {
                Ok(json!({"resourceTemplates": [{"uriTemplate": "test://{name}", "name": "any"}]}))
            }
            "resources/read" => {
                let uri = &call.params["uri"];
                Ok(json!({"contents": [{"uri": uri, "mimeType": "text/plain", "text": "contents"}]}))
            }
            "prompts/list" => Ok(json!({"prompts": [{"name": "greet", "description": "greets"}]})),
            "prompts/get" => Ok(json!({"messages": [{"role": "user",
                "content": {"type": "text", "text": format!("hello from {}", call.params["name"])}}]})),
            "completion/complete" => Ok(json!({"completion": {"values": ["one"], "hasMore": false}})),
            "subscriptions/listen" => {
                self.listen(call);
                return None;
            }
            _ => Err(error(-32601, "no such method", Value::Null)),
        })
    }

    fn call(&self, call: &Call<'_>, how: &mut How) -> Option<Result<Value, Value>> {
        let none = json!({});
        let arguments = call.params.get("arguments").unwrap_or(&none);
        Some(match call.params["name"].as_str().unwrap_or_default() {
            "echo" => Ok(text(arguments["message"].as_str().unwrap_or_default())),
            "do" => {
                let token = call.params.pointer("/_meta/progressToken");
                for deed in Deed::parse_all(arguments["deed"].as_str().unwrap_or_default()) {
                    deed.commit(token, how);
                }
                Ok(text("done"))
            }
            "seen" => Ok(text(&json!(self.state().seen).to_string())),
            "whoami" => {
                let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
                let directory = std::env::current_dir().unwrap();
                let arguments: Vec<String> = std::env::args().collect();
                Ok(text(
                    &json!({"pid": std::process::id(), "arguments": arguments, "environment": names,
                        "directory": directory, "era": format!("{:?}", self.state().era)})
                    .to_string(),
                ))
            }
            "deploy" => Ok(text(&arguments.to_string())),
            "ask" => return self.ask(call, arguments),
            "touch" => {
                self.touch(call.modern, arguments["what"].as_str().unwrap_or_default());
                Ok(text("touched"))
            }
            name => Err(error(-32602, &format!("no tool {name}"), Value::Null)),
        })
    }

    /// Asks the client for something, by a request or by an `input_required` result, as often as `rounds` says.
    fn ask(&self, call: &Call<'_>, arguments: &Value) -> Option<Result<Value, Value>> {
        let method = arguments["method"].as_str().unwrap_or("elicitation/create");
        let none = json!({});
        let params = arguments.get("params").unwrap_or(&none);
        if !call.modern {
            let mut state = self.state();
            state.asks += 1;
            let ours = format!("ask-{}", state.asks);
            state.asked.insert(format!("\"{ours}\""), call.id.to_owned());
            drop(state);
            wire::request(&ours, method, params);
            // A question of its own, which the call does not wait for.
            if let Some(aside) = arguments["aside"].as_str() {
                wire::request(&format!("aside-{ours}"), aside, &none);
            }
            return None;
        }
        let capability = method.split('/').next().unwrap_or_default();
        if call.params["_meta"][CAPABILITIES].get(capability).is_none() {
            let data = json!({"requiredCapabilities": {capability: {}}});
            return Some(Err(error(-32021, "a capability is missing", data)));
        }
        let rounds = arguments["rounds"].as_u64().unwrap_or(1);
        let done: u64 = call.params["requestState"].as_str().map_or(0, |state| state.parse().unwrap_or(0));
        if done >= rounds {
            return Some(Ok(text(&call.params["inputResponses"].to_string())));
        }
        Some(Ok(json!({"resultType": "input_required", "requestState": (done + 1).to_string(),
            "inputRequests": {format!("round-{}", done + 1): {"method": method, "params": params}}})))
    }

    /// The client's answer to a request of ours concludes the call that made us ask.
    fn conclude(&self, id: &str, body: &Value) {
        let Some(call) = self.state().asked.remove(id) else { return };
        let outcome = body.get("result").or_else(|| body.get("error")).cloned().unwrap_or_default();
        wire::line(&wire::response(&call, &Ok(text(&outcome.to_string()))));
    }

    fn notice(&self, method: &str, params: &Value) {
        drop(self.at(method, None));
        if method == "notifications/cancelled" {
            self.state().listening.remove(&params["requestId"].to_string());
        }
    }

    fn listen(&self, call: &Call<'_>) {
        let filter = call.params["notifications"].clone();
        let id: Value = serde_json::from_str(call.id).unwrap();
        self.state().listening.insert(call.id.to_owned(), filter.clone());
        let params = json!({"notifications": filter, "_meta": {SUBSCRIPTION: id}});
        wire::notify("notifications/subscriptions/acknowledged", &params);
    }

    /// Something changed: `tools`, `prompts`, `resources`, a resource's URI, or `end` for all subscriptions.
    fn touch(&self, modern: bool, what: &str) {
        let (method, member) = match what {
            "tools" => ("notifications/tools/list_changed", "toolsListChanged"),
            "prompts" => ("notifications/prompts/list_changed", "promptsListChanged"),
            "resources" => ("notifications/resources/list_changed", "resourcesListChanged"),
            _ => ("notifications/resources/updated", "resourceSubscriptions"),
        };
        let mut params = if member == "resourceSubscriptions" { json!({"uri": what}) } else { json!({}) };
        if !modern {
            return wire::notify(method, &params);
        }
        let listening = self.state().listening.clone();
        for (id, filter) in listening {
            let subscription: Value = serde_json::from_str(&id).unwrap();
            if what == "end" {
                let result = json!({"resultType": "complete", "_meta": {SUBSCRIPTION: subscription}});
                wire::line(&wire::response(&id, &Ok(result)));
                self.state().listening.remove(&id);
                continue;
            }
            let wanted = match &filter[member] {
                Value::Array(uris) => uris.iter().any(|uri| uri == what),
                flag => *flag == Value::Bool(true),
            };
            if wanted {
                params["_meta"] = json!({SUBSCRIPTION: subscription});
                wire::notify(method, &params);
            }
        }
    }
}

/// Adds what a result of 2026-07-28 must have.
fn dress(method: &str, modern: bool, mut result: Value) -> Value {
    if modern && result.get("resultType").is_none() {
        result["resultType"] = json!("complete");
        if method == "server/discover" || method == "resources/read" || method.ends_with("/list") {
            result["ttlMs"] = json!(0);
            result["cacheScope"] = json!("public");
        }
    }
    result
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

fn capabilities(modern: bool) -> Value {
    let mut capabilities = json!({"tools": {"listChanged": true}, "prompts": {"listChanged": true},
        "resources": {"listChanged": true, "subscribe": true}, "completions": {}});
    if !modern {
        capabilities["logging"] = json!({});
    }
    capabilities
}

fn tools() -> Value {
    let tool = |name: &str, properties: Value| json!({"name": name, "description": name, "inputSchema": {"type": "object", "properties": properties}});
    let string = json!({"type": "string"});
    json!({"tools": [
        tool("echo", json!({"message": string})),
        tool("do", json!({"deed": string})),
        tool("seen", json!({})),
        tool("whoami", json!({})),
        tool("ask", json!({"method": string, "params": {"type": "object"}, "rounds": {"type": "integer"}})),
        tool("touch", json!({"what": string})),
        tool("deploy", json!({
            "region": {"type": "string", "x-mcp-header": "Region"},
            "replicas": {"type": "integer", "x-mcp-header": "Replicas"},
            "dry": {"type": "boolean", "x-mcp-header": "Dry"},
            "to": {"type": "object", "properties": {"zone": {"type": "string", "x-mcp-header": "Zone"}}},
            "note": string,
        })),
    ]})
}
