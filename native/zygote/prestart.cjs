/**
 * What a Node process that is started ahead loads before the script: `node --require prestart.cjs SCRIPT LIBRARY`. It waits
 * for its run and then looks like `node SCRIPT ARGS…`; Node goes on as after any other start.
 */
"use strict"
{
  const library = { exports: {} }
  process.dlopen(library, process.argv[2])
  // What nearly every script uses sooner or later, and what reading its input and writing its output take.
  for (const name of ["fs/promises", "path", "url", "util", "stream", "net", "tty", "readline", "crypto"]) require(name)
  const [args, environment] = library.exports.take()

  for (const name of Object.keys(process.env)) delete process.env[name]
  for (const entry of environment) {
    const end = entry.indexOf("=")
    process.env[entry.slice(0, end)] = entry.slice(end + 1)
  }
  process.argv.splice(2, process.argv.length, ...args.slice(2))
  process.execArgv.length = 0
  process._preload_modules.length = 0
  delete require.cache[__filename]
}
