import { overHttp, serve } from "./support/mcp.ts"
import { suite } from "./mcpSuite.ts"

for (const era of ["2026-07-28", "2025-11-25"] as const) {
  suite(`${era} over HTTP`, async (world) => {
    const serving = await serve(world)
    const connected = await overHttp(era, serving.url)
    return {
      ...connected,
      [Symbol.asyncDispose]: async () => {
        await connected.close()
        await serving.close()
      }
    }
  })
}
