import * as Protocol from "@skillscale/core/Protocol"
import * as SkillManifest from "@skillscale/core/SkillManifest"

const maxBytes = 96 * 1024
const isName = (name: string): boolean => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name)
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/**
 * What decides which code runs, where it connects to or whom it trusts. A caller that could set these would learn the
 * secrets of a skill; a skill may.
 */
const isForeign = (name: string): boolean => name !== "NODE_ENV" && (families.test(name) || names.test(name))

/** All that begins or ends so. */
const families =
  /^(?:NODE|DENO|BUN|NPM_CONFIG|YARN|PNPM|COREPACK|UV|PIP|PYENV|VIRTUALENV|CONDA|COVERAGE|GEM|BUNDLE|RUBY|RBENV|PERL|TCL|LUA|PHP|DOTNET|CORECLR|COMPLUS|ERL|ELIXIR|JAVA|JDK|_JAVA|MAVEN|GRADLE|RUST|RUSTC|RUSTUP|CARGO|GIT|SSH|SSL|OPENSSL|CURL|WGET|XDG|MAGICK)_|_PROXY$|_CA_BUNDLE$|_STARTUP_HOOKS$/i

/** These alone: others that begin so are anybody's. */
const names =
  /^(?:SSLKEYLOGFILE|CLASSPATH|LESSOPEN|LESSCLOSE|LESS|PAGER|MANPAGER|EDITOR|VISUAL|BROWSER|ZDOTDIR|FPATH|CDPATH|MAILCAPS|AWKPATH|AWKLIBPATH|PHPRC|TCLLIBPATH|PERLLIB|PERL5\w*|R_(?:HOME|PROFILE|ENVIRON|LIBS)\w*|TK_LIBRARY|VIMRUNTIME|EMACSLOADPATH|TERMINFO_DIRS|RUBYLIB|RUBYOPT|RUBYSHELL|GOPATH|GOROOT|GOFLAGS|GOPROXY|GOBIN|TERMCAP|TERMINFO|GCONV_PATH|LOCPATH|NLSPATH|INPUTRC|NETRC|MAKEFLAGS|MFLAGS|GNUMAKEFLAGS|CC|CXX|LD|CPATH|LIBRARY_PATH|CMAKE_PREFIX_PATH|PKG_CONFIG_PATH|JULIA_LOAD_PATH|JULIA_DEPOT_PATH|OCAMLPATH|GUILE_LOAD_PATH|BAT_PAGER|EXINIT|VIMINIT)$/i

/** `SKILLSCALE_INTENT` where the input is text that fits into the environment. */
export const intent = (stdin: Uint8Array | undefined): Readonly<Record<string, string>> => {
  if (stdin === undefined || stdin.byteLength === 0 || stdin.byteLength >= Protocol.maxIntentBytes) return {}
  try {
    const text = utf8.decode(stdin)
    return text.includes("\0") ? {} : { SKILLSCALE_INTENT: text }
  } catch {
    return {}
  }
}

/** Says what is wrong with the variables that a caller sets. `secrets` are those that the server sets. */
export const refuse = (
  env: Readonly<Record<string, string>>,
  secrets: Readonly<Record<string, unknown>>
): string | undefined => {
  for (const [name, value] of Object.entries(env)) {
    if (!isName(name)) return `${JSON.stringify(name)} is not a name of an environment variable`
    if (SkillManifest.isReservedEnv(name) || isForeign(name)) {
      return `the environment variable ${name} is not a caller's to set`
    }
    if (Object.hasOwn(secrets, name)) return `the environment variable ${name} is a secret that the server sets`
    if (value.includes("\0")) return `the environment variable ${name} has a NUL in it`
    if (Buffer.byteLength(value) > maxBytes) return `the environment variable ${name} is larger than 96 KiB`
  }
  return undefined
}

/** Says what is wrong with the arguments: the kernel ends them at a NUL, and takes at most 128 KiB each. */
export const refuseArgs = (args: ReadonlyArray<string>): string | undefined => {
  const index = args.findIndex((value) => value.includes("\0") || Buffer.byteLength(value) >= 128 * 1024)
  if (index === -1) return undefined
  return args[index]?.includes("\0")
    ? `argument ${index + 1} has a NUL in it`
    : `argument ${index + 1} is larger than 128 KiB; pass it as standard input or as a file`
}

/**
 * Messages are not translated unless the caller asks for a language: programs then need not look for catalogs, which takes a
 * script with `argparse` twelve looks.
 */
export const messages = (env: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  env["LANG"] === undefined && env["LANGUAGE"] === undefined ? { LC_MESSAGES: "C" } : {}
