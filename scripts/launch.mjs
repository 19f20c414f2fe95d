// The one door to every npm script: makes sure that Node, the modules, the addon and the build are current, then runs
// the task. Runs on any Node from 18 on, with no module installed. What is current is left alone: each step keeps a
// stamp of its inputs in .setup/.
import { spawn, spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { constants } from "node:os"
import { delimiter, dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const setup = join(root, ".setup")
const floor = [22, 19]
const nodeVersion = "24.21.0"
const pyzmqVersion = "27.3.0"
/** What the product needs. */
const product = [
  "native",
  ...["core", "proxy", "server", "client", "tools", "mcp", "cli"].map((name) => `packages/${name}`)
]
const packages = [...product, "packages/adapters"]
/** What has modules: the agent frameworks and other people's tests take longer to install than all the rest. */
const workspaces = [...packages, "conformance"]

class StepFailed extends Error {}

const say = (text) => process.stderr.write(`${text}\n`)

const run = (command, args, options = {}) => {
  const result = spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2], ...options })
  if (result.error) throw new StepFailed(`${command}: ${result.error.message}`)
  if (result.status !== 0) {
    throw new StepFailed(`${[command, ...args].join(" ")} ended with ${result.status ?? result.signal}`)
  }
  return result
}

const hash = (files, ...facts) => {
  const sum = createHash("sha256")
  for (const fact of facts) sum.update(`${fact}\0`)
  for (const file of files) sum.update(`${file}\0`).update(readFileSync(join(root, file))).update("\0")
  return sum.digest("hex")
}

/** Does the work unless its stamp, or one that stands for more, is there. */
const step = (name, label, stamp, products, work, more = []) => {
  const file = join(setup, `${name}.stamp`)
  const current = existsSync(file) && [stamp, ...more].includes(readFileSync(file, "utf8"))
  if (current && products.every((product) => existsSync(join(root, product)))) return
  say(`set-up: ${label}`)
  rmSync(file, { force: true })
  work()
  mkdirSync(setup, { recursive: true })
  writeFileSync(file, stamp)
}

const recentEnough = ([major, minor]) => major > floor[0] || (major === floor[0] && minor >= floor[1])

const npm = (node, args) => {
  const script = process.env.npm_execpath
  const env = { ...process.env, PATH: `${dirname(node)}${delimiter}${process.env.PATH ?? ""}` }
  if (script && /\.c?js$/.test(script)) run(node, [script, ...args], { env })
  else run("npm", args, { env })
}

const carried = `node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`
const carriedRoot = join(".setup", "node", "node_modules", carried)

/** Installs the npm package that carries a Node binary and its headers. */
const installNode = () => {
  const home = join(setup, "node")
  step("node", `taking Node ${nodeVersion} from the npm registry (${carried})`, nodeVersion, [
    join(carriedRoot, "bin", "node")
  ], () => {
    rmSync(home, { recursive: true, force: true })
    mkdirSync(home, { recursive: true })
    writeFileSync(join(home, "package.json"), JSON.stringify({ name: "node-home", private: true }))
    const flags = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    npm(process.execPath, ["install", "--prefix", home, ...flags, `${carried}@${nodeVersion}`])
  })
  return join(root, carriedRoot)
}

/** The Node that everything runs on, and the folder whose include/node has headers for the addon. */
const findNode = () => {
  const running = process.versions.node.split(".").map(Number)
  if (!recentEnough(running)) {
    const home = installNode()
    return { node: join(home, "bin", "node"), headers: () => home }
  }
  const prefix = dirname(dirname(process.execPath))
  const own = existsSync(join(prefix, "include", "node", "node_api.h"))
  return { node: process.execPath, headers: () => own ? prefix : installNode() }
}

const installModules = ({ node }, wanted) => {
  const manifests = ["package.json", "package-lock.json", ...workspaces.map((path) => `${path}/package.json`)]
  const current = hash(manifests, process.platform, process.arch)
  const isWhole = wanted === workspaces
  const label = isWhole ? "installing modules, those of agent frameworks included" : "installing modules"
  const which = isWhole ? [] : ["--include-workspace-root", ...wanted.flatMap((path) => ["--workspace", path])]
  const stampOf = (whole) => `${current} ${whole ? "whole" : "product"}`
  step("modules", label, stampOf(isWhole), ["node_modules/effect/package.json"], () => {
    // Not `ci`: it refuses a lock file that lacks the optional packages of other platforms, which some registries do.
    npm(node, ["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", ...which])
  }, isWhole ? [] : [stampOf(true)])
}

const addonProducts = ["native/build/Release/skillscale.node", "native/build/Release/skillscale-reaper"]

const addonSources = () => [
  "native/binding.gyp",
  "native/package.json",
  ...readdirSync(join(root, "native/src")).filter((name) => /\.(cc|h|c)$/.test(name)).sort().map((name) =>
    `native/src/${name}`
  )
]

const buildAddon = (found) => {
  if (process.platform !== "linux") {
    return say("set-up: the native executor is for Linux; the Node executor takes its place")
  }
  step("addon", "building the native addon", hash(addonSources(), process.arch, nodeVersion), addonProducts, () => {
    const script = join("node_modules", "node-gyp", "bin", "node-gyp.js")
    const env = {
      ...process.env,
      npm_config_nodedir: "",
      NODE_GYP_FORCE_PYTHON: process.env.NODE_GYP_FORCE_PYTHON ?? ""
    }
    delete env.npm_config_nodedir
    if (env.NODE_GYP_FORCE_PYTHON === "") delete env.NODE_GYP_FORCE_PYTHON
    const log = join(setup, "addon.log")
    mkdirSync(setup, { recursive: true })
    const args = [script, "rebuild", "--directory", "native", "--nodedir", found.headers(), "--loglevel=warn"]
    const result = spawnSync(found.node, args, { cwd: root, env, encoding: "utf8", maxBuffer: 1 << 26 })
    writeFileSync(log, `${result.stdout ?? ""}${result.stderr ?? ""}`)
    if (result.status !== 0) {
      const tail = readFileSync(log, "utf8").trimEnd().split("\n").slice(-15).join("\n")
      throw new StepFailed(`the native addon did not build (${log}):\n${tail}`)
    }
  })
}

const sourcesBelow = (folder) =>
  readdirSync(join(root, folder), { withFileTypes: true }).sort((a, b) => a.name < b.name ? -1 : 1).flatMap((entry) =>
    entry.isDirectory()
      ? sourcesBelow(`${folder}/${entry.name}`)
      : entry.name.endsWith(".ts")
      ? [`${folder}/${entry.name}`]
      : []
  )

const buildPackages = ({ node }, wanted) => {
  const stampOf = (paths) =>
    hash(["tsconfig.json", "package-lock.json", ...paths.flatMap((path) => sourcesBelow(`${path}/src`))])
  step("build", "building the packages", stampOf(wanted), wanted.map((path) => `${path}/dist`), () => {
    run(node, ["node_modules/typescript/bin/tsc", "-b", ...wanted])
  }, wanted === packages ? [] : [stampOf(packages)])
}

/** The tests talk to independent Python peers as well, where pyzmq can be had. */
const installPeers = () => {
  step("peers", `installing pyzmq ${pyzmqVersion} for the tests`, pyzmqVersion, [".setup/venv/bin/python3"], () => {
    rmSync(join(setup, "venv"), { recursive: true, force: true })
    run("python3", ["-m", "venv", join(setup, "venv")])
    const python = join(setup, "venv", "bin", "python3")
    run(python, [
      "-m",
      "pip",
      "install",
      "--quiet",
      "--disable-pip-version-check",
      "--only-binary",
      ":all:",
      `pyzmq==${pyzmqVersion}`
    ])
  })
}

const optional = (work, consequence) => {
  try {
    work()
  } catch (error) {
    if (!(error instanceof StepFailed) || process.env.SKILLSCALE_MUST_RUN === "1") throw error
    say(`warning: ${error.message}\nwarning: ${consequence}`)
  }
}

const modules = (found) => installModules(found, workspaces)
const buildAddonIfPossible = (found) =>
  optional(() => buildAddon(found), "the Node executor takes its place; it cannot enforce limits")
/** The modules and the addon that the product needs, and no more. */
const lean = (found) => {
  installModules(found, product)
  buildAddonIfPossible(found)
}
const ready = (found) => {
  lean(found)
  buildPackages(found, product)
}
const addon = (found) => {
  modules(found)
  buildAddonIfPossible(found)
}
const build = (found) => {
  addon(found)
  buildPackages(found, packages)
}
const testing = (found) => {
  addon(found)
  optional(installPeers, "the tests with Python peers will be skipped")
}

const bin = join(root, "packages/cli/dist/bin.js")
const tsc = "node_modules/typescript/bin/tsc"
const source = ["--conditions=skillscale"]

/** Every task: what it needs, and the commands (arguments of node) that it runs one after the other. */
const tasks = {
  setup: { needs: ready, commands: [] },
  demo: { needs: ready, commands: [["scripts/demo.ts"]] },
  start: { needs: ready, commands: [[bin, "up"]] },
  test: { needs: (found) => (build(found), testing(found)), commands: [["node_modules/vitest/vitest.mjs", "run"]] },
  "test:crewai": {
    needs: build,
    commands: [["node_modules/vitest/vitest.mjs", "run"]],
    env: { SKILLSCALE_TEST: "crewai", SKILLSCALE_MUST_RUN: "1" }
  },
  bench: { needs: addon, commands: [[...source, "bench/main.ts"]] },
  chaos: { needs: lean, commands: [[...source, "chaos/main.ts"]] },
  escape: { needs: lean, commands: [[...source, "scripts/escape.ts"]] },
  "test:mcp": { needs: addon, commands: [[...source, "conformance/mcp.ts"]] },
  skillscale: { needs: ready, commands: [[bin]], cwd: process.env.INIT_CWD },
  build: { needs: build, commands: [] },
  "build:native": { needs: lean, commands: [] },
  check: { needs: modules, commands: [[tsc, "-b"], ["scripts/diagnostics.mjs"]] },
  lint: {
    needs: modules,
    commands: [["node_modules/oxlint/bin/oxlint", "--deny-warnings"], ["node_modules/dprint/bin.cjs", "check"]]
  },
  "lint:fix": {
    needs: modules,
    commands: [["node_modules/oxlint/bin/oxlint", "--fix"], ["node_modules/dprint/bin.cjs", "fmt"]]
  },
  "test:native:asan": { needs: lean, commands: [["native/asan.mjs"]] }
}

const launch = (node, args, { cwd = root, env: more = {} }) =>
  new Promise((resolve) => {
    const env = { ...process.env, ...more, PATH: `${dirname(node)}${delimiter}${process.env.PATH ?? ""}` }
    const child = spawn(node, args, { cwd, stdio: "inherit", env })
    // A terminal sends SIGINT to the whole group; only what reaches this process alone is passed on.
    const forward = (signal) => {
      if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal)
    }
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, forward)
    child.on("error", (error) => {
      say(`error: ${node}: ${error.message}`)
      resolve(1)
    })
    child.on("exit", (code, signal) => resolve(code ?? 128 + (constants.signals[signal ?? "SIGTERM"] ?? 15)))
  })

const main = async () => {
  const [name = "", ...extra] = process.argv.slice(2)
  const task = tasks[name]
  if (task === undefined) {
    say(`usage: node scripts/launch.mjs ${Object.keys(tasks).join("|")} [ARGS…]`)
    return 2
  }
  const found = findNode()
  task.needs(found)
  for (const [index, command] of task.commands.entries()) {
    const last = index === task.commands.length - 1
    const code = await launch(found.node, last ? [...command, ...extra] : command, task)
    if (code !== 0) return code
  }
  return 0
}

try {
  process.exitCode = await main()
} catch (error) {
  if (!(error instanceof StepFailed)) throw error
  say(`error: set-up failed: ${error.message}`)
  process.exitCode = 1
}
