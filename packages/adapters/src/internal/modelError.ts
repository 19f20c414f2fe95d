/** Errors for frameworks that tell their models the message of what a tool throws. */
import { ToolError } from "@skillscale/tools/ToolError"

/** Its message is what a model should read; its cause is the `ToolError`. */
class ModelError extends Error {
  override readonly name = "ToolError"
}

/** A tool's error with the text for the model as its message; anything else, as the reason of an abort, as it is. */
export const modelError = (error: unknown): unknown =>
  error instanceof ToolError ? new ModelError(error.text, { cause: error }) : error
