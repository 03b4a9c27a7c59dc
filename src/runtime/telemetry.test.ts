import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'

/** A process without the variables by which ONNX Runtime knows a build server, where it never sends anything. */
function traces(script: string, environment: Record<string, string> = {}): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'groundswell-telemetry-'))
  try {
    const { PATH = '' } = process.env
    const env = { PATH, TMPDIR: folder, HOME: folder, ...environment }
    execFileSync(process.execPath, ['--input-type=module', '--eval', script], {
      env,
      cwd: import.meta.dirname,
    })
    return readdirSync(folder, { recursive: true }).map(String)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const openIndex = `const { openBackend } = await import('${join(import.meta.dirname, 'index.ts')}')`
const useCpu = `${openIndex}; await using backend = await openBackend({ name: 'cpu', threads: 1 })`

test('ONNX Runtime reports nothing to its maker and leaves no identifier behind', () => {
  expect(traces(useCpu)).toEqual([])
})

test('whoever wants it reported can say so', () => {
  const kept = `${useCpu}; if (process.env.ORT_DISABLE_TELEMETRY !== '0') process.exit(1)`
  expect(() => traces(kept, { ORT_DISABLE_TELEMETRY: '0', CI: 'true' })).not.toThrow()
})
