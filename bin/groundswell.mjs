#!/usr/bin/env node
/**
 * The door of the program, in plain JavaScript that any Node can read: it hands over to the Node 24 that npm
 * installed beside the sources when it was started by an older one, and runs the sources where they lie, else the
 * built files.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import module from 'node:module'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const neededMajor = 24
const root = dirname(dirname(fileURLToPath(import.meta.url)))
const sources = join(root, 'src', 'cli', 'main.ts')
const main = existsSync(sources) ? sources : join(root, 'dist', 'cli', 'main.js')

if (Number(process.versions.node.split('.')[0]) >= neededMajor) {
  // Here, as what is loaded before is compiled at every start, and the compiler of TypeScript loaded for it.
  module.enableCompileCache()
  await import(pathToFileURL(main).href)
} else {
  const node = installedNode()
  if (node === undefined) {
    process.stderr.write(
      `groundswell needs Node ${neededMajor} or newer; this is ${process.version}. Run “npm ci” in ${root}, which brings one along.\n`,
    )
    process.exit(1)
  }
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: 'inherit' })
  // Ctrl-C reaches the child twice, as it shares the terminal, and counts once there (src/cli/interrupt.ts).
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => {
    process.stderr.write(`Could not start ${node}: ${error.message}\n`)
    process.exit(1)
  })
  child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]))
}

/** The Node that npm installed: in this package's own node_modules, or hoisted above it. */
function installedNode() {
  const name = process.platform === 'win32' ? 'node.exe' : 'node'
  for (let folder = root; ; folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules', 'node', 'bin', name)
    if (existsSync(candidate)) return candidate
    if (dirname(folder) === folder) return undefined
  }
}
