// Calls tools of an MCP server with the TypeScript SDK: node mcp.mjs URL TOOL ARGUMENTS [TOOL ARGUMENTS]...
// Prints the structured content of each result, one line each.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, ...calls] = process.argv.slice(2);
const client = new Client({ name: "interop", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
await client.listTools(); // the SDK checks results against the schemas that it has seen
while (calls.length > 0) {
  const [name, text] = calls.splice(0, 2);
  const result = await client.callTool({ name, arguments: JSON.parse(text) });
  console.log(JSON.stringify(result.structuredContent ?? result));
}
await client.close();
