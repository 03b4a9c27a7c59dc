/** The part of koffi that `native-library.ts` calls. */
declare module 'koffi' {
  /** A C pointer. */
  export type Pointer = bigint | object
  export interface CFunction {
    (...values: unknown[]): unknown
    /** Runs on another thread and calls back, with the arguments followed by the callback. */
    async(...values: unknown[]): void
  }
  export type CType = string | { readonly name: string }
  interface Koffi {
    load(path: string): { func(name: string, result: CType, parameters: readonly CType[]): CFunction }
    proto(result: CType, parameters: readonly CType[]): CType
    decode(pointer: unknown, offset: number, type: CType): unknown
    decode(pointer: unknown, type: CType): unknown
    out(type: CType): CType
    pointer(type: CType): CType
    view(pointer: unknown, length: number): ArrayBuffer
  }
  const koffi: Koffi
  export default koffi
}
