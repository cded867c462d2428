/**
 * Builds the page: one file with script, style and licenses in it, and a place for the document.
 *
 *     node build.mjs FILE.html
 *
 * Rules:
 * - Nothing in the file refers to anything outside it; the policy in its head forbids it besides.
 * - The policy names script and style by their hashes. The document is data, not script, so `edge-agent docs --out` can
 *   put it in without knowing of hashes.
 * - The same sources and lock give the same bytes.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
/** The page alone; a document of usual size goes on top, and all of it has to stay below 500 KB. */
const LIMIT = 450_000;

/** What the browser may do: run this script, use this style, talk to a broker. */
function policy(script, style) {
  const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
  return [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    "connect-src ws: wss:",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; ");
}

/** The licenses of what is bundled, as their authors ship them. */
function licenses(inputs) {
  const folders = new Set(Object.keys(inputs).flatMap((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? []));
  const parts = [...folders].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(HERE, folder, "package.json"), "utf8"));
    const file = readdirSync(join(HERE, folder)).find((one) => /^licen[cs]e(\.\w+)?$/i.test(one));
    if (!file) throw new Error(`${folder}: no license file; the page can't be given away without it`);
    return `${name} ${version} (${license})\n\n${readFileSync(join(HERE, folder, file), "utf8").trim()}`;
  });
  return parts.join(`\n\n${"-".repeat(72)}\n\n`);
}

async function main(out) {
  const made = await build({
    absWorkingDir: HERE,
    entryPoints: { page: "src/main.js", style: "src/style.css" },
    // What mqtt.js takes from Node.
    alias: { stream: "readable-stream", "worker-timers": "./src/vendor/node.js" },
    inject: ["src/vendor/node.js"],
    bundle: true,
    charset: "utf8",
    define: { global: "globalThis" },
    format: "iife",
    legalComments: "none",
    logLevel: "warning",
    metafile: true,
    minify: true,
    outdir: "out",
    target: ["chrome109", "firefox115", "safari16"],
    write: false,
  });
  const text = (ending) => made.outputFiles.find(({ path }) => path.endsWith(ending)).text.trim();
  // A script element ends at the first of these, whatever the script means by it.
  const script = text(".js").replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--");
  const style = text(".css");
  if (style.includes("</style")) throw new Error("the style ends its own element");
  const places = {
    POLICY: policy(script, style),
    STYLE: style,
    SCRIPT: script,
    LICENSES: licenses(made.metafile.inputs).replaceAll("</script", "<\\/script"),
  };
  const page = readFileSync(join(HERE, "src/index.html"), "utf8").replace(/@([A-Z]+)@/g, (all, name) => places[name] ?? all);
  if (Buffer.byteLength(page) > LIMIT) throw new Error(`the page has ${Buffer.byteLength(page)} bytes, more than ${LIMIT}`);
  mkdirSync(dirname(out), { recursive: true });
  writeFileSync(`${out}.new`, page);
  renameSync(`${out}.new`, out);
  console.log(`${out}: ${Buffer.byteLength(page)} bytes`);
}

if (process.argv.length !== 3) {
  console.error("usage: node build.mjs FILE.html");
  process.exit(2);
}
await main(process.argv[2]);
