// oidc-provider behind TLS on a free port of 127.0.0.1, with the registrations of a file of JSON (its one argument).
// Prints "ready " and what a client has to know as JSON; ends at the end of its input.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';

import { createLocalJWKSet, jwtVerify } from 'jose';
import { Provider, errors } from 'oidc-provider';

const { tls, clients, issuers } = JSON.parse(readFileSync(process.argv[2], 'utf8'));

// A client without a certificate of this CA is let in all the same: the certificate may be one it signed itself.
const server = createServer({
  cert: tls.certificate, key: tls.key, ca: tls.client_ca, requestCert: true, rejectUnauthorized: false,
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `https://localhost:${server.address().port}`;

const resources = { 'https://api.example': 'read', 'https://other.example': 'read' };

const provider = new Provider(issuer, {
  clients,
  scopes: ['openid', 'offline_access', 'read', 'write'],
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth',
    'self_signed_tls_client_auth', 'none',
  ],
  clientBasedCORS: () => false,
  rotateRefreshToken: true,
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  ttl: { AccessToken: 3600, ClientCredentials: 3600, Grant: 3600, RefreshToken: 3600 },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    resourceIndicators: {
      enabled: true,
      // No resource was asked for: the token is for none.
      defaultResource: () => undefined,
      getResourceServerInfo: (_, resource) => {
        if (!resources[resource]) throw new errors.InvalidTarget();
        return { scope: resources[resource], audience: resource, accessTokenFormat: 'opaque' };
      },
    },
    dPoP: { enabled: true, nonceSecret: Buffer.alloc(32, 'n'), requireNonce: () => true },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      selfSignedTlsClientAuth: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate(),
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) => {
        const certificate = ctx.socket.getPeerX509Certificate();
        if (property === 'tls_client_auth_subject_dn') return certificate.subject === expected;
        if (property === 'tls_client_auth_san_dns') return certificate.checkHost(expected) === expected;
        return false;
      },
    },
  },
});

// A JWT of one of the issuers that were named, for this server.
async function trusted(token) {
  for (const { issuer: iss, jwks } of issuers) {
    try {
      const options = { issuer: iss, audience: [issuer, `${issuer}/token`], requiredClaims: ['sub', 'exp'] };
      return (await jwtVerify(token, createLocalJWKSet(jwks), options)).payload;
    } catch (error) {
      if (error.code !== 'ERR_JWT_CLAIM_VALIDATION_FAILED' && error.code !== 'ERR_JWKS_NO_MATCHING_KEY') throw error;
    }
  }
  throw new Error('the issuer is not trusted');
}

async function answer(ctx, token, more) {
  let subject;
  try {
    subject = await trusted(token);
  } catch (cause) {
    throw new errors.InvalidGrant(`the assertion was refused: ${cause.message}`);
  }
  const { client, params } = ctx.oidc;
  const granted = new provider.AccessToken({ accountId: subject.sub, client, scope: params.scope, gty: params.grant_type });
  const grant = new provider.Grant({ accountId: subject.sub, clientId: client.clientId });
  grant.addOIDCScope(params.scope ?? '');
  granted.grantId = await grant.save();
  ctx.body = {
    access_token: await granted.save(), token_type: 'Bearer', expires_in: granted.expiration, scope: params.scope, ...more,
  };
}

// RFC 7523, section 2.1.
provider.registerGrantType('urn:ietf:params:oauth:grant-type:jwt-bearer', async (ctx) => {
  await answer(ctx, ctx.oidc.params.assertion);
}, ['assertion', 'scope']);

// RFC 8693: the subject is a JWT, and an access token is what one gets.
provider.registerGrantType('urn:ietf:params:oauth:grant-type:token-exchange', async (ctx) => {
  if (ctx.oidc.params.subject_token_type !== 'urn:ietf:params:oauth:token-type:jwt') {
    throw new errors.InvalidRequest('subject_token_type has to be urn:ietf:params:oauth:token-type:jwt');
  }
  const type = 'urn:ietf:params:oauth:token-type:access_token';
  await answer(ctx, ctx.oidc.params.subject_token, { issued_token_type: type });
}, ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope'], ['resource', 'audience']);

// What a browser would have brought each client of the refresh token grant.
const refreshTokens = {};
for (const { client_id: clientId, grant_types: grantTypes } of clients) {
  if (!grantTypes.includes('refresh_token')) continue;
  const grant = new provider.Grant({ accountId: 'alice', clientId });
  grant.addOIDCScope('openid offline_access read');
  const token = new provider.RefreshToken({
    accountId: 'alice', client: await provider.Client.find(clientId), grantId: await grant.save(), gty: 'authorization_code',
    scope: 'openid offline_access read',
  });
  refreshTokens[clientId] = await token.save();
}

server.on('request', provider.callback());
process.stdin.on('end', () => process.exit()).resume();
console.log(`ready ${JSON.stringify({
  issuer,
  token_endpoint: `${issuer}/token`,
  introspection_endpoint: `${issuer}/token/introspection`,
  refresh_tokens: refreshTokens,
})}`);
