// fetch with undici's EnvHttpProxyAgent. Honours HTTP_PROXY, HTTPS_PROXY and NODE_EXTRA_CA_CERTS.
// Without `proxyTunnel: false` undici asks for a tunnel for http:// URLs too, and nothing can be injected there.

import { EnvHttpProxyAgent, fetch, setGlobalDispatcher } from "undici";

setGlobalDispatcher(new EnvHttpProxyAgent({ proxyTunnel: false }));
for (const [method, body] of [["GET"], ["POST", '{"n":1}']]) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  const answer = await fetch(process.argv[2], { method, body, headers, signal: AbortSignal.timeout(20_000) });
  console.log(method, answer.status, (await answer.text()).slice(0, 200));
}
