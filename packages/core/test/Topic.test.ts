import * as Topic from "@skillscale/core/Topic"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"

describe("Topic", () => {
  it("follows from the category", () => {
    assert.strictEqual(Topic.fromCategory("data-processing"), "TOPIC_DATA_PROCESSING")
  })

  it("is 1 to 255 bytes without control characters", () => {
    const is = Schema.is(Topic.Topic)
    assert.isTrue(is("é".repeat(127)))
    assert.isFalse(is("é".repeat(128)))
    assert.isFalse(is(""))
    assert.isFalse(is("a\u0000b"))
  })

  it("keeps replies apart from requests and control messages", () => {
    const is = Schema.is(Topic.ReplyTopic)
    assert.isTrue(is(Topic.reply("9f8e7d6c")))
    assert.isFalse(is(Topic.fromCategory("x")))
    assert.isFalse(is(Topic.control("TOPIC_X")))
    assert.isFalse(is(Topic.everyServer))
    assert.isTrue(Topic.isControl(Topic.everyServer))
  })

  it("names what belongs to one replica", () => {
    assert.strictEqual(Topic.worker("TOPIC_X", "1f"), "@worker/TOPIC_X/1f")
    assert.strictEqual(Topic.load("TOPIC_X", "1f"), "@load/TOPIC_X/1f")
    assert.isTrue(Topic.isControl(Topic.worker("TOPIC_X", "1f")) && Topic.isControl(Topic.load("TOPIC_X", "1f")))
  })
})
