// The reference client for the suite's scenarios about authorization, on the official SDK: it is refused, logs in as what
// it was told leads it to, lists tools and calls them. The suite's mock authorization server judges what it asked for.
//
//   node login.mjs URL
//
// CONFORMANCE_VIA is a port of loopback to which connections for the URL's own origin go: to the proxy, which stands under
// the mock server's name as a proxy in production stands under its public one. CONFORMANCE_WRAP is told of each token.
// CONFORMANCE_BLIND makes it a client that was made before RFC 9207 and looks at no `iss`.

import { Agent, buildConnector, setGlobalDispatcher } from 'undici';

const REDIRECT = 'http://localhost:3000/callback';
const DOCUMENT = 'https://conformance-test.local/client-metadata.json'; // the one that the suite expects (CIMD)
const LOGINS_MAX = 3; // more would be a loop: auth/scope-retry-limit

const { CONFORMANCE_VIA: via, CONFORMANCE_WRAP: wrap, CONFORMANCE_BLIND: blind } = process.env;
const { MCP_CONFORMANCE_SCENARIO: scenario, MCP_CONFORMANCE_PROTOCOL_VERSION: revision } = process.env;
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
const url = new URL(process.argv[2]);

if (via) {
  const dial = buildConnector({});
  const ours = ({ hostname, port }) => hostname === url.hostname && port === url.port;
  const connect = (to, done) => dial(ours(to) ? { ...to, hostname: '127.0.0.1', port: via } : to, done);
  setGlobalDispatcher(new Agent({ connect }));
}

/** Tells the wrapper, where there is one. */
async function tell(what, body = {}) {
  if (!wrap) return;
  const answer = await fetch(`${wrap}/${what}`, { method: 'POST', body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${what} was answered ${answer.status}`);
}

const issued = ({ access_token: token, scope = '' }, issuer) => tell('issued', { token, scope, issuer });

/** A provider of the SDK's that tells of the tokens it gets. */
const telling = (Provider) =>
  class extends Provider {
    async saveTokens(tokens, about) {
      await super.saveTokens(tokens, about);
      await issued(tokens, about?.issuer ?? tokens.issuer);
    }
  };

/** What a client has to remember of one login and of one authorization server, and a person who agrees to everything. */
class Memory {
  #clients = new Map();

  constructor(known) {
    this.known = known;
  }
  get redirectUrl() {
    return REDIRECT;
  }
  get clientMetadataUrl() {
    return DOCUMENT;
  }
  get clientMetadata() {
    return {
      client_name: 'conformance-login',
      redirect_uris: [REDIRECT],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      application_type: 'native',
    };
  }
  state() {
    return 'conformance-state';
  }
  clientInformation(about) {
    return this.known ?? this.#clients.get(about?.issuer);
  }
  saveClientInformation(client, about) {
    this.#clients.set(about?.issuer, client);
  }
  tokens() {
    return this.saved;
  }
  saveTokens(tokens, about) {
    this.saved = tokens;
    this.found = undefined;
    return issued(tokens, about?.issuer ?? tokens.issuer);
  }
  /** A browser. Where a login relay sends it on it calls the authorization server itself, which in the scenarios of MCP
   * 2025-03-26 has the mock server's name, too. */
  async redirectToAuthorization(authorization, dispatcher) {
    const answer = await fetch(authorization, { redirect: 'manual', dispatcher });
    const location = answer.headers.get('location');
    if (!location) throw new Error(`${authorization} was answered ${answer.status}: ${await answer.text()}`);
    if (location.startsWith(REDIRECT)) this.landed = new URL(location);
    else await this.redirectToAuthorization(new URL(location, authorization), new Agent());
  }
  saveCodeVerifier(verifier) {
    this.verifier = verifier;
  }
  codeVerifier() {
    return this.verifier;
  }
  saveDiscoveryState(found) {
    this.found = found;
  }
  discoveryState() {
    return this.found;
  }
  invalidateCredentials(what) {
    if (what === 'all' || what === 'tokens') this.saved = undefined;
    if (what === 'all' || what === 'client') this.#clients.clear();
  }
}

/** The SDK before RFC 9728, which asks the MCP server's own origin who issues tokens. */
async function old() {
  const load = (file) => import(`sdk-old/client/${file}.js`);
  const [{ Client }, { StreamableHTTPClientTransport }] = [await load('index'), await load('streamableHttp')];
  return { Client, StreamableHTTPClientTransport };
}

const before = revision < '2025-06-18';
const sdk = await import('@modelcontextprotocol/client');
const { Client, StreamableHTTPClientTransport } = before ? await old() : sdk;

/** What logs in: most scenarios have a person at a browser, some a program with credentials of its own. */
function provider() {
  const { client_id: clientId, client_secret: clientSecret, issuer } = context;
  switch (scenario) {
    case 'auth/pre-registration':
      return new Memory({ client_id: clientId, client_secret: clientSecret, ...(blind ? {} : { issuer }) });
    case 'auth/client-credentials-basic':
      return new (telling(sdk.ClientCredentialsProvider))({ clientId, clientSecret });
    case 'auth/client-credentials-jwt':
      return new (telling(sdk.PrivateKeyJwtProvider))({
        clientId,
        privateKey: context.private_key_pem,
        algorithm: context.signing_algorithm,
      });
    case 'auth/enterprise-managed-authorization': {
      const assertion = async ({ authorizationServerUrl, resourceUrl }) => {
        const granted = await sdk.requestJwtAuthorizationGrant({
          tokenEndpoint: context.idp_token_endpoint,
          audience: authorizationServerUrl,
          resource: resourceUrl,
          idToken: context.idp_id_token,
          clientId: context.idp_client_id,
        });
        return granted.jwtAuthGrant;
      };
      return new (telling(sdk.CrossAppAccessProvider))({ assertion, clientId, clientSecret });
    }
    case 'auth/wif-jwt-bearer': {
      const memory = new Memory({ client_id: clientId });
      Object.defineProperty(memory, 'redirectUrl', { value: undefined });
      const grant = { grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion: context.valid_jwt };
      memory.prepareTokenRequest = () => new URLSearchParams(grant);
      return memory;
    }
    default:
      return new Memory();
  }
}

const authProvider = provider();
let transport;
let logins = 1;

/** Does what `act` does, and logs in where that is asked for. */
async function withLogin(act) {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (error?.constructor?.name !== 'UnauthorizedError' || logins >= LOGINS_MAX) throw error;
      logins += 1;
      const { searchParams } = authProvider.landed;
      await transport.finishAuth(blind || before ? searchParams.get('code') : searchParams);
    }
  }
}

const options = before ? undefined : { versionNegotiation: { mode: revision >= '2026-07-28' ? 'auto' : 'legacy' } };
const client = await withLogin(async () => {
  const fresh = new Client({ name: 'conformance-login', version: '1.0.0' }, options);
  transport = new StreamableHTTPClientTransport(url, { authProvider });
  await fresh.connect(transport);
  return fresh;
});
if (scenario === 'auth/authorization-server-migration') await tell('migrated');
const { tools } = await withLogin(() => client.listTools());
for (const { name } of tools) await withLogin(() => client.callTool({ name, arguments: {} }));
await client.close();
