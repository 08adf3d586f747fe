// A small authorization server, as far as a resource server sees it: metadata (RFC 8414), a key set (RFC 7517), and
// RS256 access tokens (RFC 9068), good ones and bad ones.

import { generateKeyPair, sign } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { promisify } from 'node:util';

const KID = 'conformance';

const b64 = (value) => Buffer.from(value).toString('base64url');
const newKey = () => promisify(generateKeyPair)('rsa', { modulusLength: 2048 });

export class Issuer {
  #key;
  #listener;

  /** Listens on `port` of loopback, with a key made for the occasion under a `kid` that is always the same. */
  static async start(port = 0) {
    const issuer = new Issuer();
    issuer.#key = await newKey();
    issuer.#listener = createServer((request, response) => issuer.#answer(request, response));
    issuer.#listener.listen(port, '127.0.0.1');
    await once(issuer.#listener, 'listening');
    issuer.url = `http://127.0.0.1:${issuer.#listener.address().port}`;
    return issuer;
  }

  #answer(request, response) {
    const documents = {
      '/.well-known/oauth-authorization-server': () => ({
        issuer: this.url,
        jwks_uri: `${this.url}/jwks`,
        authorization_endpoint: `${this.url}/authorize`,
        token_endpoint: `${this.url}/token`,
        response_types_supported: ['code'],
      }),
      '/jwks': () => ({
        keys: [{ ...this.#key.publicKey.export({ format: 'jwk' }), kid: KID, use: 'sig', alg: 'RS256' }],
      }),
    };
    const found = documents[request.url];
    response.writeHead(found ? 200 : 404, { 'content-type': 'application/json' });
    response.end(found ? JSON.stringify(found()) : '{}');
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
