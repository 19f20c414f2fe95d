import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Path from "node:path"
import type * as Executor from "../Executor.ts"
import type * as Interpreter from "../Interpreter.ts"
import type * as SkillRunner from "../SkillRunner.ts"
import { importsOf } from "./pythonImports.ts"

const maxKnown = 256

/** What an interpreter reads when it starts, which a fork server did long ago. */
const isReadAtStart = (name: string): boolean => /^(?:PYTHON|LANG|LC_|TZ$|HOME$|TMPDIR$|LD_|MALLOC_)/.test(name)

/** Decides which runs may start warm. */
export const make = (isEnabled: boolean) => {
  const modules = new Map<string, ReadonlyArray<string>>()
  const importsOnce = (key: string, file: string) => {
    const known = modules.get(key)
    if (known !== undefined) return known
    if (modules.size >= maxKnown) modules.clear()
    const found = importsOf(file)
    modules.set(key, found)
    return found
  }
  return {
    of: (
      skill: SkillDiscovery.Skill,
      call: SkillRunner.Call,
      command: Interpreter.Command,
      file: string
    ): Executor.Warm | undefined => {
      const isPython = /^(?:python|pypy)[\d.]*$/.test(Path.basename(command.file)) && Path.extname(file) === ".py"
      if (!isEnabled || !isPython || command.args.length > 0) return undefined
      if (skill.manifest.metadata["skillscale.warm"] === "false") return undefined
      if (Object.keys(call.env ?? {}).some(isReadAtStart)) return undefined
      return { kind: "python", key: skill.digest, modules: importsOnce(`${skill.digest} ${file}`, file) }
    }
  }
}
