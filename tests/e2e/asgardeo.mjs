// Asgardeo's endpoints as they are documented, in front of oidc-provider: an organisation's token, authorization and key
// endpoints, and POST of an application to its management API. It says no `iss` in its answers, as Asgardeo does not.
//
//   node asgardeo.mjs PORT

import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const port = Number(process.argv[2]);
const origin = `http://127.0.0.1:${port}`;
const org = '/t/org';
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const scopes = ['mcp:read', 'mcp:echo', 'mcp:admin'];
const audiences = new Map();
let registering;

const provider = new Provider(`${origin}${org}/oauth2/token`, {
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'asgardeo' }] },
  cookies: { keys: ['only for this run'] },
  scopes: ['openid', 'offline_access', 'internal_application_mgt_create', ...scopes],
  routes: {
    authorization: `${org}/oauth2/authorize`,
    token: `${org}/oauth2/token`,
    jwks: `${org}/oauth2/jwks`,
    registration: '/internal/registration',
  },
  clients: [
    {
      client_id: 'operator',
      client_secret: 'operator-secret-of-the-e2e-run',
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
    },
  ],
  ttl: { AccessToken: 600, ClientCredentials: 600, Grant: 600, Interaction: 600, Session: 600 },
  features: {
    clientCredentials: { enabled: true },
    registration: {
      enabled: true,
      idFactory: () => registering.clientId,
      secretFactory: () => registering.clientSecret,
    },
    resourceIndicators: {
      enabled: true,
      // Asgardeo does not need `resource`: the audience stands in the application.
      defaultResource: (_ctx, client) => audiences.get(client.clientId)?.[0],
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

const redirects = ([callback]) =>
  callback.startsWith('regexp=(') ? callback.slice(8, -1).split('|').map((uri) => uri.replaceAll(/\\(.)/g, '$1')) : [callback];

/** `POST /api/server/v1/applications`. */
async function application(ctx) {
  const token = await provider.ClientCredentials.find(/^Bearer (.+)$/.exec(ctx.get('authorization'))?.[1] ?? 'none');
  if (!token?.scope?.split(' ').includes('internal_application_mgt_create')) {
    ctx.status = 401;
    ctx.body = { code: 'APP-401', message: 'Unauthorized' };
    return;
  }
  let text = '';
  for await (const piece of ctx.req) text += piece;
  const { name, inboundProtocolConfiguration } = JSON.parse(text);
  const { oidc } = inboundProtocolConfiguration;
  if (!name || !oidc.callbackURLs.length || oidc.pkce.mandatory !== true || oidc.accessToken.type !== 'JWT') {
    ctx.status = 400;
    ctx.body = { code: 'APP-60001', message: 'Invalid' };
    return;
  }
  registering = oidc;
  audiences.set(oidc.clientId, oidc.idToken.audience);
  const registered = await fetch(`${origin}/internal/registration`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      client_name: name,
      redirect_uris: redirects(oidc.callbackURLs),
      grant_types: oidc.grantTypes,
      response_types: ['code'],
      token_endpoint_auth_method: oidc.publicClient ? 'none' : 'client_secret_basic',
    }),
  });
  ctx.status = registered.status;
  if (registered.status !== 201) ctx.body = { code: 'APP-60002', message: await registered.text() };
  else ctx.set('location', `${org}/api/server/v1/applications/1`);
}

provider.use(async (ctx, next) => {
  if (ctx.method === 'POST' && ctx.path === `${org}/api/server/v1/applications`) return application(ctx);
  await next();
  const location = ctx.response.get('location');
  if (location?.includes('iss=')) {
    const to = new URL(location, origin);
    to.searchParams.delete('iss');
    ctx.set('location', to.href);
  }
});
provider.listen(port, '127.0.0.1', () => console.log(`organisation ${origin}${org}`));
