// npm oidc-provider as the issuer of tokens for machines: a key for each algorithm, JWT access tokens signed by the one
// that the resource asks for, opaque ones for other resources, and introspection.
//
//   node issuer.mjs PORT
//
// Resources are https://mcp.example/ALGORITHM, and https://mcp.example/opaque.

import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const jwk = (alg, type, options) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }),
  use: 'sig',
  alg,
  kid: alg,
});
const rsa = { modulusLength: 2048 };
const keys = [
  jwk('RS256', 'rsa', rsa),
  jwk('RS512', 'rsa', rsa),
  jwk('PS256', 'rsa', rsa),
  jwk('ES256', 'ec', { namedCurve: 'P-256' }),
  jwk('ES384', 'ec', { namedCurve: 'P-384' }),
  jwk('EdDSA', 'ed25519'),
];
const machine = { redirect_uris: [], response_types: [], grant_types: ['client_credentials'], scope: 'mcp:read mcp:echo' };

const provider = new Provider(issuer, {
  jwks: { keys },
  cookies: { keys: ['only for this run'] },
  scopes: ['mcp:read', 'mcp:echo'],
  enabledJWA: { idTokenSigningAlgValues: keys.map(({ alg }) => alg) },
  clients: [
    { ...machine, client_id: 'robot', client_secret: 'the robot: has a secret' },
    { ...machine, client_id: 'proxy', client_secret: 'and so has the proxy' },
    { ...machine, client_id: 'proxy-post', client_secret: 'and so has the other', token_endpoint_auth_method: 'client_secret_post' },
  ],
  ttl: { ClientCredentials: 600 },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (_ctx, client) => client.clientId.startsWith('proxy') },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_ctx, resource) => {
        const kind = new URL(resource).pathname.slice(1);
        const format = kind === 'opaque' ? {} : { jwt: { sign: { alg: kind } } };
        return { scope: 'mcp:read mcp:echo', audience: resource, accessTokenFormat: kind === 'opaque' ? 'opaque' : 'jwt', ...format };
      },
    },
  },
});

provider.listen(port, '127.0.0.1', () => console.log(`issuer ${issuer}`));
