// fetch with undici's EnvHttpProxyAgent. Honours HTTP_PROXY, HTTPS_PROXY and NODE_EXTRA_CA_CERTS.
// By default undici 6 and 7 ask for a tunnel for http:// URLs too: `--proxy-tunnel` leaves it at that.

import { EnvHttpProxyAgent, fetch, setGlobalDispatcher } from "undici";

const url = process.argv.at(-1);
setGlobalDispatcher(new EnvHttpProxyAgent(process.argv.includes("--proxy-tunnel") ? {} : { proxyTunnel: false }));
for (const [method, body] of [["GET"], ["POST", '{"n":1}']]) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  const answer = await fetch(url, { method, body, headers, signal: AbortSignal.timeout(20_000) });
  console.log(method, answer.status, (await answer.text()).slice(0, 200));
}
