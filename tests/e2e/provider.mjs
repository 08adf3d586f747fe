// npm oidc-provider as the identity provider: RS256 JWT access tokens for the resource that a client names, dynamic
// registration, PKCE, and its own development pages for login and consent.
//
//   node provider.mjs PORT [silent]
//
// A silent one says no `iss` in its answers, as providers from before RFC 9207 do not.

import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const scopes = ['mcp:read', 'mcp:echo', 'mcp:admin'];

const provider = new Provider(issuer, {
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'e2e' }] },
  cookies: { keys: ['only for this run'] },
  scopes: ['openid', 'offline_access', ...scopes],
  clientDefaults: { token_endpoint_auth_method: 'none', grant_types: ['authorization_code', 'refresh_token'] },
  ttl: { AccessToken: 600, Grant: 600, Interaction: 600, Session: 600 },
  features: {
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_ctx, resource) => ({
        scope: scopes.join(' '),
        audience: resource,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});

if (process.argv[3] === 'silent') {
  provider.use(async (ctx, next) => {
    await next();
    const location = ctx.response.get('location');
    if (location?.includes('iss=')) {
      const to = new URL(location, issuer);
      to.searchParams.delete('iss');
      ctx.set('location', to.href);
    }
    if (ctx.body?.authorization_response_iss_parameter_supported) {
      delete ctx.body.authorization_response_iss_parameter_supported;
    }
  });
}
provider.listen(port, '127.0.0.1', () => console.log(`issuer ${issuer}`));
