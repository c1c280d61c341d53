// Formats what it is given on standard input as `terraform fmt` does: a list of texts in, a list of texts out, as JSON.
// The formatter is HashiCorp's own (hclwrite), compiled to WebAssembly.
import { readFileSync } from "node:fs";
import { format } from "@cdktn/hcl-tools";

const formatted = [];
for (const text of JSON.parse(readFileSync(0, "utf8"))) {
  formatted.push(await format(text));
}
process.stdout.write(JSON.stringify(formatted));
