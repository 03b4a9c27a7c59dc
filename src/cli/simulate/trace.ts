/** A simulation's events in a file, one JSON object a line, written as they happen and never held. */
import { closeSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import type { RunEvent } from '../../run/index.ts'

const chunkLength = 1 << 16

export class TraceFile implements Disposable {
  private readonly path: string
  private readonly file: number
  private pending = ''
  private open = true

  constructor(path: string) {
    this.path = path
    this.file = openSync(`${path}.partial`, 'w')
  }

  write(event: RunEvent): void {
    this.pending += `${JSON.stringify(event, plain)}\n`
    if (this.pending.length >= chunkLength) this.flush()
  }

  /** All of it is there. */
  finish(): void {
    this.flush()
    closeSync(this.file)
    this.open = false
    renameSync(`${this.path}.partial`, this.path)
  }

  /** Leaves nothing behind that is not whole. */
  [Symbol.dispose](): void {
    if (!this.open) return
    closeSync(this.file)
    rmSync(`${this.path}.partial`)
  }

  private flush(): void {
    writeSync(this.file, this.pending)
    this.pending = ''
  }
}

function plain(_: string, value: unknown): unknown {
  return value instanceof Uint8Array ? Buffer.from(value).toString('base64') : value
}
