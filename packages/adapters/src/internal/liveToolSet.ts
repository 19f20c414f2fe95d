/** A `ToolSet` that is always the current one, for code that took it once and reads it again with each step. */
import type { ToolSet } from "ai"

/** How many tools that are gone can still be called, which answers why they are: a model may have been offered them. */
const maxGone = 100

export const live = <Tools extends ToolSet>(current: () => Tools): Tools => {
  let known = current()
  const gone = new Map<string, ToolSet[string]>()
  const now = () => {
    const tools = current()
    if (tools === known) return tools
    for (const [name, tool] of Object.entries(known)) {
      if (!Object.hasOwn(tools, name)) gone.set(name, tool)
    }
    for (const name of gone.keys()) {
      if (Object.hasOwn(tools, name) || gone.size > maxGone) gone.delete(name)
    }
    known = tools
    return tools
  }
  const find = (name: string | symbol) => {
    const tools = now()
    if (typeof name === "symbol") return undefined
    return Object.hasOwn(tools, name) ? tools[name] : gone.get(name)
  }
  return new Proxy<Tools>(Object.assign({}, known), {
    ownKeys: () => Object.keys(now()),
    has: (_, name) => find(name) !== undefined,
    get: (_, name) => find(name),
    getOwnPropertyDescriptor: (_, name) => {
      const value = find(name)
      if (value === undefined) return undefined
      return { value, configurable: true, enumerable: Object.hasOwn(now(), name), writable: false }
    },
    set: () => false,
    defineProperty: () => false,
    deleteProperty: () => false
  })
}
