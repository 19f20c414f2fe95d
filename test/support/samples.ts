/**
 * The samples of the shipped skills: what each is called with, and what has to come of it. Output and artifacts are
 * Latin-1, so that comparing strings compares bytes.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"

/** What `case.json` says of a sample; `stdin` and the values of `files` name files beside it. */
interface Case {
  readonly script?: string | undefined
  readonly args?: ReadonlyArray<string> | undefined
  readonly stdin?: string | undefined
  readonly files?: Readonly<Record<string, string>> | undefined
  readonly exit: number
}

/** A call, and what has to come of it. */
export interface Sample {
  readonly call: {
    readonly script: string | undefined
    readonly args: ReadonlyArray<string> | undefined
    readonly stdin: Buffer | undefined
    readonly files: Readonly<Record<string, Buffer>>
  }
  readonly expected: {
    readonly exitCode: number
    readonly stdout: string
    readonly stderr: string
    readonly artifacts: Readonly<Record<string, string>>
  }
}

/** Every file below a folder by its path, in order; none where there is no such folder. */
export const filesBelow = (folder: string): Readonly<Record<string, string>> =>
  Fs.existsSync(folder)
    ? Object.fromEntries(
      Fs.readdirSync(folder, { recursive: true }).map(String).sort()
        .filter((name) => Fs.statSync(Path.join(folder, name)).isFile())
        .map((name) => [name, Fs.readFileSync(Path.join(folder, name), "latin1")])
    )
    : {}

/** Reads the sample in a folder. */
export const read = (folder: string): Sample => {
  const input = (name: string) => Fs.readFileSync(Path.join(folder, name))
  const golden = (name: string) =>
    Fs.existsSync(Path.join(folder, name)) ? Fs.readFileSync(Path.join(folder, name), "latin1") : ""
  const { args, exit, files, script, stdin }: Case = JSON.parse(Fs.readFileSync(Path.join(folder, "case.json"), "utf8"))
  return {
    call: {
      script,
      args,
      stdin: stdin === undefined ? undefined : input(stdin),
      files: Object.fromEntries(Object.entries(files ?? {}).map(([path, source]) => [path, input(source)]))
    },
    expected: {
      exitCode: exit,
      stdout: golden("stdout"),
      stderr: golden("stderr"),
      artifacts: filesBelow(Path.join(folder, "artifacts"))
    }
  }
}
