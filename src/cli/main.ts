/**
 * Where the program starts: reads the command line, runs one command, and turns whatever goes wrong into one
 * sentence, a way out and an exit code.
 */
import { inspect } from 'node:util'
import { CommanderError } from 'commander'
import { describeFailure, exitCodes, usageError } from './failures.ts'
import { listenForInterrupt } from './interrupt.ts'
import { watchOutput } from './lost-output.ts'
import { createOutput } from './output.ts'
import { createProgram } from './program.ts'

const debug = process.argv.includes('--debug')
const json = process.argv.includes('--json')
const output = createOutput({ json }, process)

const interruption = listenForInterrupt(process, () =>
  output.note('Stopping; press Ctrl-C again to leave at once.'),
)
const lost = watchOutput(process, interruption.stop)

if (process.argv.includes('--leave-with-parent')) leaveWithParent()
process.exitCode = await run()
// Native sessions and sockets may keep the process alive; it has said all it has to say.
process.stdout.write('', () => process.exit())

/** Standard input is a pipe that nobody writes to: it closes when the process at its other end is gone. */
function leaveWithParent(): void {
  process.stdin.resume().once('close', () => {
    process.kill(process.pid, 'SIGTERM')
    setTimeout(() => process.exit(exitCodes.interrupted), 3000).unref()
  })
}

async function run(): Promise<number> {
  using listening = interruption
  try {
    const { nodeFiles } = await import('../run/index.ts')
    await createProgram({
      output,
      signal: listening.signal,
      files: nodeFiles(),
      workingFolder: process.cwd(),
    }).parseAsync(process.argv)
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) return report(thrown)
    if (thrown.exitCode !== 0) return report(fromCommander(thrown))
  }
  await lost.settled()
  return lost.failure === undefined ? 0 : report(lost.failure)
}

async function report(thrown: unknown): Promise<number> {
  const failure = describeFailure(thrown)
  const interrupted = failure.exitCode === exitCodes.interrupted
  output.event({
    event: 'error',
    code: failure.code,
    message: failure.message,
    remedy: failure.remedy ?? null,
  })
  if (interrupted && lost.readerLeft) return failure.exitCode // `| head` is no news
  const text = failure.remedy === undefined ? failure.message : `${failure.message}\n  → ${failure.remedy}`
  output.note(text)
  await lost.settled()
  if (lost.failure !== undefined) output.line(text) // one of the two came through
  if (debug && !interrupted) process.stderr.write(`${inspect(thrown)}\n`)
  return failure.exitCode
}

/** Commander's own words, in the form of ours. */
function fromCommander(error: CommanderError): unknown {
  if (error.code === 'commander.help') return noCommand()
  const [first = '', ...rest] = error.message.replace(/^error: /, '').split('\n')
  const sentence = `${first.charAt(0).toUpperCase()}${first.slice(1).replace(/\.$/, '')}.`
  const hint = rest.join(' ').replace(/^\(|\)$/g, '')
  return usageError('command-line', sentence, hint === '' ? 'See “groundswell --help”.' : hint)
}

/** Commander shows its help for these, and has no words of its own. */
function noCommand(): unknown {
  const [first, second] = process.argv.slice(2).filter((argument) => !argument.startsWith('-'))
  const sentence = first === 'help' ? `There is no command “${second}”.` : 'No command is named.'
  return usageError('command-line', sentence, 'See “groundswell --help”.')
}
