/** Calls a skill until it is killed: `node killedCaller.ts XSUB XPUB SKILL ARGUMENT`. */
import * as PromiseClient from "@skillscale/client/PromiseClient"

const [, , xsub = "", xpub = "", skill = "", argument = ""] = process.argv
const client = await PromiseClient.connect({ xsub, xpub, lease: "1 second" })
await client.run({ skill, topic: "TOPIC_TESTING", args: [argument], timeout: "1 hour" })
