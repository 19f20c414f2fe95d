/**
 * Names of topics, and how they follow from categories and reply addresses.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * The largest topic, in UTF-8 bytes.
 *
 * @category models
 * @since 0.1.0
 */
export const maxBytes = 255

/**
 * A topic's name: 1–255 bytes of UTF-8 without control characters.
 *
 * @category models
 * @since 0.1.0
 */
export const Topic = Schema.String.check(
  Schema.isPattern(/^[^\u0000-\u001f\u007f-\u009f]+$/, { expected: "a topic without control characters" }),
  Schema.makeFilter((topic) => Buffer.byteLength(topic) <= maxBytes || `expected a topic of at most ${maxBytes} bytes`)
)

/**
 * The address on which one caller hears its replies: a topic that is neither a skill topic nor a control topic, so that
 * no reply can be mistaken for a request.
 *
 * @category models
 * @since 0.1.0
 */
export const ReplyTopic = Topic.check(
  Schema.makeFilter((topic) =>
    !topic.startsWith("TOPIC_") && !topic.startsWith("@") ||
    "expected a reply topic, which does not begin with TOPIC_ or @"
  )
)

/**
 * The control topic that every skill server subscribes to.
 *
 * @category models
 * @since 0.1.0
 */
export const everyServer = "@SERVERS"

/**
 * The control topic on which servers announce themselves and the revision of their catalog, for who follows it.
 *
 * @category models
 * @since 0.1.0
 */
export const announcements = "@CATALOG"

/**
 * The control topic on which the proxy itself answers.
 *
 * @category models
 * @since 0.1.0
 */
export const proxy = "@PROXY"

/**
 * Names the topic of a category: `data-processing` becomes `TOPIC_DATA_PROCESSING`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromCategory = (category: string): string => `TOPIC_${category.toUpperCase().replaceAll("-", "_")}`

/**
 * Names the reply topic of a caller: `AGENT_REPLY_` and its identifier.
 *
 * @category constructors
 * @since 0.1.0
 */
export const reply = (id: string): string => `AGENT_REPLY_${id}`

/**
 * Names the control topic of a skill topic: `@TOPIC_DATA_PROCESSING`. Cancellations go there.
 *
 * @category constructors
 * @since 0.1.0
 */
export const control = (topic: string): string => `@${topic}`

/**
 * Names the control topic of one replica of a skill topic: `@worker/TOPIC_DATA_PROCESSING/1f2e3d4c`. The replica alone
 * subscribes to it, on the connection on which it takes requests, so that the proxy knows which replica a connection is.
 * The identifier has no `/`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const worker = (topic: string, id: string): string => `${workerPrefix}${topic}/${id}`

/**
 * Names the topic on which one replica of a skill topic tells its `Load`: `@load/TOPIC_DATA_PROCESSING/1f2e3d4c`. The
 * identifier has no `/`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const load = (topic: string, id: string): string => `${loadPrefix}${topic}/${id}`

/**
 * What every topic of `worker` begins with.
 *
 * @category constructors
 * @since 0.1.0
 */
export const workerPrefix = "@worker/"

/**
 * What every topic of `load` begins with.
 *
 * @category constructors
 * @since 0.1.0
 */
export const loadPrefix = "@load/"

/**
 * Tells whether a topic is one on which servers take requests, which begins with `TOPIC_`.
 *
 * @category guards
 * @since 0.1.0
 */
export const isSkills = (topic: string): boolean => topic.startsWith("TOPIC_")

/**
 * Tells whether a topic is a control topic, which begins with `@`.
 *
 * @category guards
 * @since 0.1.0
 */
export const isControl = (topic: string): boolean => topic.startsWith("@")
