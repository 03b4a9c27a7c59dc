/** Resources that are made in several steps, any of which may fail. */

/**
 * What `next` makes, with or of a resource that was opened for it. If that fails nobody else holds the resource, so
 * it is disposed of.
 */
export async function orDispose<R extends AsyncDisposable, T>(
  resource: R,
  next: (resource: R) => T | Promise<T>,
): Promise<T> {
  try {
    return await next(resource)
  } catch (thrown) {
    // What failed first is what has to be told.
    await Promise.resolve(resource[Symbol.asyncDispose]()).catch(() => undefined)
    throw thrown
  }
}
