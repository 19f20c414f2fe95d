/**
 * What of the host every confined run may read: programs, libraries, and the settings that they look for. Nothing that
 * belongs to a user, and of `/etc` nothing that could be a secret.
 */
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"

const system = [
  "/usr",
  "/bin",
  "/sbin",
  "/lib",
  "/lib32",
  "/lib64",
  "/libx32",
  "/opt",
  "/nix/store",
  "/gnu/store",
  "/snap"
]

const settings = [
  "alternatives",
  "bash.bashrc",
  "ca-certificates",
  "ca-certificates.conf",
  "crypto-policies",
  "debian_version",
  "default/locale",
  "environment",
  "fonts",
  "gai.conf",
  "group",
  "host.conf",
  "hosts",
  "ImageMagick-6",
  "ImageMagick-7",
  "inputrc",
  "java-11-openjdk",
  "java-17-openjdk",
  "java-21-openjdk",
  "ld.so.cache",
  "ld.so.conf",
  "ld.so.conf.d",
  "locale.alias",
  "locale.conf",
  "localtime",
  "lsb-release",
  "magic",
  "magic.mime",
  "mailcap",
  "mime.types",
  "nsswitch.conf",
  "os-release",
  "papersize",
  "paper.config",
  "passwd",
  "perl",
  "pki/ca-trust",
  "pki/tls/certs",
  "pki/tls/openssl.cnf",
  "profile",
  "profile.d",
  "protocols",
  "python3",
  "python3.9",
  "python3.10",
  "python3.11",
  "python3.12",
  "python3.13",
  "redhat-release",
  "resolv.conf",
  "services",
  "shells",
  "skel",
  "ssl/certs",
  "ssl/openssl.cnf",
  "terminfo",
  "timezone",
  "vim",
  "xattr.conf",
  "xdg"
].map((name) => `/etc/${name}`)

const resolved = (path: string): ReadonlyArray<string> => {
  try {
    return [Fs.realpathSync(path)]
  } catch {
    return []
  }
}

/** Folders in which the interpreter of a name in the path has its library, also behind a version manager's shim. */
const prefixes = (program: string, question: string, path: string): Promise<ReadonlyArray<string>> =>
  new Promise((resolve) =>
    execFile(
      program,
      ["-I", "-c", question],
      { env: { ...process.env, PATH: path }, timeout: 10_000 },
      (error, stdout) => resolve(error === null ? stdout.split("\n").filter((line) => Path.isAbsolute(line)) : [])
    )
  )

const pythonPrefixes = "import sys\nfor p in (sys.prefix, sys.base_prefix, sys.exec_prefix): print(p)"

/** Where version managers keep interpreters; environments of skills point to them. */
const managed = () =>
  [
    process.env["PYENV_ROOT"] ?? Path.join(Os.homedir(), ".pyenv"),
    process.env["NVM_DIR"] ?? Path.join(Os.homedir(), ".nvm")
  ]
    .map((folder) => Path.join(folder, "versions")).concat(
      process.env["UV_PYTHON_INSTALL_DIR"] ?? Path.join(Os.homedir(), ".local", "share", "uv", "python")
    )

const isWhole = (path: string): boolean => path === "/" || path === Os.homedir() || path === "/root" || path === "/home"

/** Lists what is there, each path once. */
export const readable = async (path: string, extra: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
  const commands = path.split(Path.delimiter).filter((folder) => Path.isAbsolute(folder))
  const python = await prefixes("python3", pythonPrefixes, path)
  const node = Path.dirname(Path.dirname(Fs.realpathSync(process.execPath)))
  const found = [...commands, ...python, node, ...managed()].flatMap((
    folder
  ) => [Path.normalize(folder), ...resolved(folder)])
  const all = [
    ...system,
    ...settings,
    ...found.filter((folder) => !isWhole(folder)),
    ...extra.map((one) => Path.resolve(one))
  ]
  return [...new Set(all.flatMap((one) => [one, ...resolved(one)]))].filter((one) => one !== "/" && Fs.existsSync(one))
}
