/**
 * Which modules a Python script is sure to import first of all: what stands at the beginning of a line of it, and of the
 * modules of the skill that it imports in that way. Modules of the skill itself are left out, because their code may depend
 * on the run.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"

const maxFiles = 32
const maxBytes = 512 * 1024
const maxModules = 64

const read = (file: string): string => {
  try {
    return Fs.statSync(file).size > maxBytes ? "" : Fs.readFileSync(file, "utf8")
  } catch {
    return ""
  }
}

/** Lists the modules that are named at the beginning of a line, relative ones left out. */
const named = (source: string): ReadonlyArray<string> =>
  Array.from(source.matchAll(/^(?:import[ \t]+([^\n#;]+)|from[ \t]+([A-Za-z_][\w.]*)[ \t]+import\b)/gm))
    .flatMap(([, list, one]) =>
      one !== undefined ? [one] : (list ?? "").split(",").map((item) => item.trim().split(/\s/)[0] ?? "")
    )
    .filter((name) => /^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*$/.test(name) && name !== "__future__" && name !== "__main__")

export const importsOf = (script: string): ReadonlyArray<string> => {
  const folder = Path.dirname(script)
  const modules = new Set<string>()
  const seen = new Set<string>()
  const waiting = [script]
  for (let file = waiting.pop(); file !== undefined && seen.size < maxFiles; file = waiting.pop()) {
    if (seen.has(file)) continue
    seen.add(file)
    for (const name of named(read(file))) {
      const top = name.split(".")[0] ?? name
      const own = Path.join(folder, `${top}.py`)
      if (Fs.existsSync(own)) waiting.push(own)
      else if (!Fs.existsSync(Path.join(folder, top)) && modules.size < maxModules) modules.add(name)
    }
  }
  return [...modules]
}
