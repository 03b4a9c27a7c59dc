/**
 * An object as it is but for some members: how bounds are put around parts of js-libp2p that lack them, at the seam
 * where the library hands its components to a service.
 */
export function overriding<Target extends object>(target: Target, members: Partial<Target>): Target {
  return new Proxy(target, {
    get: (_, key) => {
      if (Object.hasOwn(members, key)) return members[key as keyof Target]
      const value: unknown = Reflect.get(target, key)
      // Methods keep their own object, whose private fields a proxy does not have.
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
