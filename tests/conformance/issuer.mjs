// A small authorization server: metadata (RFC 8414), a key set (RFC 7517), and RS256 access tokens (RFC 9068), good ones and
// bad ones; and for a login relay before it the code grant with PKCE, to whoever asks.

import { createHash, generateKeyPair, randomUUID, sign } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';

const KID = 'conformance';

const b64 = (value) => Buffer.from(value).toString('base64url');
const newKey = () => promisify(generateKeyPair)('rsa', { modulusLength: 2048 });

export class Issuer {
  #key;
  #listener;
  #codes = new Map();

  /** Listens on `port` of loopback, with a key made for the occasion under a `kid` that is always the same. `more` goes into
   * the metadata. */
  static async start(port = 0, more = {}) {
    const issuer = new Issuer();
    issuer.more = more;
    issuer.#key = await newKey();
    issuer.#listener = createServer((request, response) => issuer.#answer(request, response));
    issuer.#listener.listen(port, '127.0.0.1');
    await once(issuer.#listener, 'listening');
    issuer.url = `http://127.0.0.1:${issuer.#listener.address().port}`;
    return issuer;
  }

  async #answer(request, response) {
    const { pathname, searchParams } = new URL(request.url, this.url);
    const documents = {
      '/.well-known/oauth-authorization-server': () => ({
        issuer: this.url,
        jwks_uri: `${this.url}/jwks`,
        authorization_endpoint: `${this.url}/authorize`,
        token_endpoint: `${this.url}/token`,
        response_types_supported: ['code'],
        code_challenge_methods_supported: ['S256'],
        token_endpoint_auth_methods_supported: ['none'],
        ...this.more,
      }),
      '/jwks': () => ({
        keys: [{ ...this.#key.publicKey.export({ format: 'jwk' }), kid: KID, use: 'sig', alg: 'RS256' }],
      }),
    };
    if (pathname === '/authorize') return response.writeHead(302, { location: this.#authorize(searchParams) }).end();
    let [status, body] = documents[pathname] ? [200, documents[pathname]()] : [404, {}];
    if (pathname === '/token' && request.method === 'POST') [status, body] = this.#exchange(await text(request));
    response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
    response.end(JSON.stringify(body));
  }

  /** Agrees to everything, and says where to go then (RFC 6749 section 4.1.2, RFC 9207). */
  #authorize(asked) {
    const landing = new URL(asked.get('redirect_uri'));
    const code = randomUUID();
    this.#codes.set(code, asked);
    landing.searchParams.set('code', code);
    landing.searchParams.set('state', asked.get('state'));
    if (this.more.authorization_response_iss_parameter_supported) landing.searchParams.set('iss', this.url);
    return landing.href;
  }

  /** A code becomes a token, once, for whoever began with it (RFC 7636 section 4.6). */
  #exchange(form) {
    const given = new URLSearchParams(form);
    const asked = this.#codes.get(given.get('code'));
    this.#codes.delete(given.get('code'));
    const challenge = createHash('sha256').update(given.get('code_verifier') ?? '').digest('base64url');
    const same = ['client_id', 'redirect_uri'].every((name) => asked?.get(name) === given.get(name));
    if (!same || asked.get('code_challenge') !== challenge) return [400, { error: 'invalid_grant' }];
    return [200, { access_token: this.token(asked.get('resource') ?? undefined), token_type: 'Bearer', expires_in: 3600 }];
  }

  /** A token for `aud` with these claims changed; one that is undefined is left out. */
  token(aud, changed = {}) {
    return this.#sign(aud, changed, this.#key.privateKey);
  }

  /** The same, signed with a key that no key set holds, under the `kid` of one that is there. */
  async forged(aud) {
    const { privateKey } = await newKey();
    return this.#sign(aud, {}, privateKey);
  }

  #sign(aud, changed, key) {
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: this.url, sub: 'suite', client_id: 'suite', aud, iat: now, exp: now + 3600, ...changed };
    const head = { alg: 'RS256', typ: 'at+jwt', kid: KID };
    const signed = `${b64(JSON.stringify(head))}.${b64(JSON.stringify(claims))}`;
    return `${signed}.${b64(sign('sha256', Buffer.from(signed), key))}`;
  }

  async stop() {
    this.#listener.close();
    this.#listener.closeAllConnections();
    await once(this.#listener, 'close');
  }
}
