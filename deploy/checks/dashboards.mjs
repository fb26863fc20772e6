// Checks dashboards, given as files, against Grafana's own types: a wrong option name, value or type is an error of
// the compiler.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { basename, dirname, join, resolve } from "node:path";
import ts from "typescript";

const folder = dirname(fileURLToPath(import.meta.url));
const sources = new Map(
  process.argv.slice(2).map((path) => [
    join(folder, `${basename(path, ".json")}.virtual.ts`),
    `import type { Board } from "./dashboard";\nexport const board: Board = ${readFileSync(resolve(path), "utf8")};\n`,
  ]),
);
const options = {
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  target: ts.ScriptTarget.ES2022,
  types: [],
};
const host = ts.createCompilerHost(options);
const { fileExists, getSourceFile } = host;
host.fileExists = (path) => sources.has(path) || fileExists(path);
host.getSourceFile = (path, version, ...rest) =>
  sources.has(path)
    ? ts.createSourceFile(path, sources.get(path), version)
    : getSourceFile.call(host, path, version, ...rest);

const found = ts.getPreEmitDiagnostics(ts.createProgram([...sources.keys()], options, host));
for (const problem of found) {
  const place = problem.file?.getLineAndCharacterOfPosition(problem.start);
  const file = basename(problem.file?.fileName ?? "", ".virtual.ts");
  console.error(`${file}:${place ? place.line : 0}: ${ts.flattenDiagnosticMessageText(problem.messageText, "\n")}`);
}
process.exit(found.length ? 1 : 0);
