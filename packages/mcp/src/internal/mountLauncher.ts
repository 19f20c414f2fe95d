/**
 * Becomes the program of its arguments, with the named pipe of its first argument as standard input. The pipe's name is removed:
 * nobody else is to open it.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"

const [pipe = "", file = "", ...args] = process.argv.slice(2)
// What is opened next is 0, since that is the lowest that is free.
Fs.closeSync(0)
Fs.openSync(pipe, "r")
Fs.rmSync(Path.dirname(pipe), { recursive: true, force: true })
if (process.execve === undefined) throw new Error("this version of Node cannot replace its process")
process.execve(file, args, process.env)
