import * as ClientError from "@skillscale/client/ClientError"
import { assert, describe, it } from "@effect/vitest"
import * as Exit from "../src/internal/exit.ts"

const codeOf = (reason: ClientError.Reason) =>
  Exit.codeOfClientError(new ClientError.ClientError({ operation: "invoke", reason }))

describe("the exit code of a call", () => {
  it("is 4 where there is no server that takes it", () => {
    assert.strictEqual(codeOf(new ClientError.CircuitOpen({ topic: "TOPIC_A", retryAfterMs: 500 })), 4)
    assert.strictEqual(codeOf(new ClientError.NoServer({ topic: "TOPIC_A" })), 4)
    assert.strictEqual(codeOf(new ClientError.ReplicaLost({ topic: "TOPIC_A", server: "s" })), 4)
    assert.strictEqual(codeOf(new ClientError.Overloaded({ where: "server", detail: "" })), 4)
  })
})
