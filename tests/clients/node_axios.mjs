// axios. Honours HTTP_PROXY, HTTPS_PROXY and NODE_EXTRA_CA_CERTS.

import axios from "axios";

for (const [method, data] of [["GET"], ["POST", { n: 1 }]]) {
  const answer = await axios.request({
    method, data, url: process.argv[2], timeout: 20_000, responseType: "text", validateStatus: () => true,
  });
  console.log(method, answer.status, answer.data.slice(0, 200));
}
