// Loaded before the official suite, which has no way to send a token: adds `Authorization` to every request for the
// origin MCP_BEARER_ORIGIN, and to no other. The suite sends with fetch, with undici and with node:http.

import http from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import { Agent, setGlobalDispatcher } from 'undici';

const { MCP_BEARER: token, MCP_BEARER_ORIGIN: ours } = process.env;

if (token && ours) {
  const value = `Bearer ${token}`;

  // Node's own fetch takes the same global dispatcher. Headers come as a flat list, an object or a list of pairs.
  const withToken = (headers) => {
    const flat = Array.isArray(headers) && !Array.isArray(headers[0]);
    if (flat) return [...headers, 'authorization', value];
    return headers?.[Symbol.iterator] ? [...headers, ['authorization', value]] : { ...headers, authorization: value };
  };
  const adding = (dispatch) => (options, handler) =>
    dispatch(`${options.origin}` === ours ? { ...options, headers: withToken(options.headers) } : options, handler);
  setGlobalDispatcher(new Agent().compose(adding));

  const { request } = http;
  http.request = (options, ...rest) => {
    const toUs = `http://${options.hostname}:${options.port}` === ours;
    return request(toUs ? { ...options, headers: withToken(options.headers) } : options, ...rest);
  };
  syncBuiltinESMExports();
}
