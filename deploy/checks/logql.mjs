// Reads a JSON object of names and LogQL expressions from standard input; says which of them Grafana's own grammar
// does not accept, and where.
import { readFileSync } from "node:fs";
import { parser } from "@grafana/lezer-logql";

const expressions = JSON.parse(readFileSync(0, "utf8"));
let wrong = 0;
for (const [name, expression] of Object.entries(expressions)) {
  parser.parse(expression).iterate({
    enter: (node) => {
      if (!node.type.isError) return;
      wrong += 1;
      console.error(`${name}: wrong at ${node.from}: ${expression.slice(node.from, node.from + 40) || "(its end)"}`);
    },
  });
}
process.exit(wrong ? 1 : 0);
