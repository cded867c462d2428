// Asks AsyncAPI's own parser (build/asyncapi) about documents: one a line on standard input, one line of complaints for each.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const { Parser } = createRequire(process.argv[2])("@asyncapi/parser");
const parser = new Parser();
for await (const line of createInterface({ input: process.stdin })) {
  const { document, diagnostics } = await parser.parse(line);
  const said = diagnostics
    .filter(({ code }) => code !== "asyncapi-latest-version")
    .map(({ code, path, message }) => `${code} at ${path.join("/")}: ${message}`);
  console.log(JSON.stringify(document || said.length ? said : ["no document"]));
}
