import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Path from "node:path"
import type * as Executor from "../Executor.ts"
import type * as Interpreter from "../Interpreter.ts"

/** What an interpreter reads when it starts, which one that is warm did long ago. */
const readAtStart = /^(?:PYTHON|NODE_|FORCE_COLOR$|LANG|LC_|TZ$|HOME$|TMPDIR$|LD_|MALLOC_|SSL_|OPENSSL_|UV_)/

const kindOf = (interpreter: string, file: string): Executor.Warm["kind"] | undefined => {
  const program = Path.basename(interpreter)
  if (/^(?:python|pypy)[\d.]*$/.test(program) && Path.extname(file) === ".py") return "python"
  return program === "node" && /\.[cm]?js$/.test(file) ? "node" : undefined
}

/** Decides which runs may start warm. */
export const make = (mode: "on" | "standard" | "off") => {
  return {
    /** `packages` changes with the packages that a Python script has of its own, and is undefined without any. */
    of: (
      skill: SkillDiscovery.Skill,
      env: Readonly<Record<string, string>>,
      command: Interpreter.Command,
      file: string,
      packages: string | undefined
    ): Executor.Warm | undefined => {
      const kind = kindOf(command.file, file)
      if (mode === "off" || kind === undefined || command.args.length > 0) return undefined
      // What Node imports ahead is in the process of one run.
      if (mode === "standard" && kind === "python" && packages !== undefined) return undefined
      // What cannot be read is no leave either.
      if ((skill.manifest.metadata["skillscale.warm"] ?? "true") !== "true") return undefined
      if (Object.keys(env).some((name) => readAtStart.test(name))) return undefined
      return { kind, key: kind === "node" ? skill.digest : `${skill.digest} ${packages ?? ""}` }
    }
  }
}
