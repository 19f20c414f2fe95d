/** An array that is always the current one, for frameworks that took it once and read it again with each turn. */

export const liveArray = <A>(current: () => Array<A>): Array<A> =>
  new Proxy<Array<A>>([], {
    get: (_, key) => Reflect.get(current(), key),
    has: (_, key) => Reflect.has(current(), key),
    ownKeys: () => Reflect.ownKeys(current()),
    getOwnPropertyDescriptor: (_, key) => {
      const descriptor = Reflect.getOwnPropertyDescriptor(current(), key)
      // The length of the array behind is not configurable, nor may this one be.
      return descriptor === undefined || key === "length" ? descriptor : { ...descriptor, configurable: true }
    },
    set: () => false,
    defineProperty: () => false,
    deleteProperty: () => false
  })
