/** Counts the runs of the skill that must not run twice, each of which sends its name, and answers once it is counted. */
import * as Net from "node:net"
import type { Counted } from "./call.ts"

const [host] = process.argv.slice(2)
// Ctrl-C is for the one who started this.
process.on("SIGINT", () => {})

const server = Net.createServer((socket) => {
  let text = ""
  socket.on("error", () => socket.destroy())
  socket.on("data", (chunk) => {
    text += chunk.toString()
    const [name, rest] = text.split("\n")
    if (name === undefined || rest === undefined) return
    const counted: Counted = { counted: name }
    process.send?.(counted, () => socket.end("counted\n"))
  })
})
server.listen(0, host, () => {
  const address = server.address()
  process.send?.(typeof address === "object" && address !== null ? address.port : 0)
})
process.once("message", () => process.disconnect())
process.once("disconnect", () => process.exit())
