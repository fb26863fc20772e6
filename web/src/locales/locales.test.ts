import { expect, test } from "vitest";

const files = import.meta.glob<Record<string, unknown>>("./*/*.json", { eager: true, import: "default" });

function leaves(tree: Record<string, unknown>, at = ""): Record<string, string> {
  return Object.fromEntries(
    Object.entries(tree).flatMap(([key, value]) =>
      typeof value === "string"
        ? [[at + key, value]]
        : Object.entries(leaves(value as Record<string, unknown>, `${at}${key}.`)),
    ),
  );
}

const slots = (text: string) => (text.match(/\{\{\w+\}\}/g) ?? []).sort();
const english = Object.entries(files).filter(([path]) => path.startsWith("./en/"));

test("both languages have the same files", () => {
  const names = (lang: string) =>
    Object.keys(files)
      .filter((path) => path.startsWith(`./${lang}/`))
      .map((path) => path.slice(5));
  expect(names("ko")).toEqual(names("en"));
});

test.each(english)("%s has the same keys and slots in Korean", (path, tree) => {
  const en = leaves(tree);
  const ko = leaves(files[path.replace("/en/", "/ko/")] ?? {});
  expect(Object.keys(ko).sort()).toEqual(Object.keys(en).sort());
  for (const [key, text] of Object.entries(en)) {
    expect(slots(ko[key] ?? ""), key).toEqual(slots(text));
    expect(ko[key], key).not.toBe("");
  }
});
