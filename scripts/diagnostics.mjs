// Runs the Effect diagnostics over every project and fails when there is any: Effect 3 names, floating effects and such.
import { spawnSync } from "node:child_process"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const projects = ["core", "proxy", "server", "client", "tools", "adapters", "mcp", "cli"].map((name) =>
  `packages/${name}/tsconfig.json`
)
let failed = false
for (const project of [...projects, "tsconfig.test.json"]) {
  const result = spawnSync(join(root, "node_modules/.bin/effect-tsgo"), [
    "diagnostics",
    "--project",
    project,
    "--strict"
  ], {
    cwd: root,
    encoding: "utf8"
  })
  const text = `${result.stdout}${result.stderr}`.trim()
  if (result.status !== 0) {
    failed = true
    process.stderr.write(`${project}\n${text}\n`)
  }
}
process.exitCode = failed ? 1 : 0
