/**
 * Puts the Python that a version manager's shim starts ahead of the shim, for all tests but those of shims themselves. A shim takes a
 * tenth of a second, and every server that a test makes asks it for what is behind it.
 */
import * as ChildProcess from "node:child_process"
import * as Path from "node:path"

export const setup = (): () => void => {
  const before = process.env["PATH"]
  const { stdout } = ChildProcess.spawnSync("python3", ["-I", "-c", "import sys; print(sys.executable)"], {
    encoding: "utf8"
  })
  const executable = stdout?.trim() ?? ""
  if (Path.isAbsolute(executable)) process.env["PATH"] = `${Path.dirname(executable)}${Path.delimiter}${before ?? ""}`
  return () => {
    if (before !== undefined) process.env["PATH"] = before
  }
}
