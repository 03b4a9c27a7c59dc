/**
 * The `Backend` that everyone uses, over any `Engine`.
 *
 * State is double-buffered: a run reads the front set of buffers and writes the next values into the back set, and
 * the two change places once the run has succeeded. So a failed run leaves the state as it was, no value is copied,
 * and no program can see a half-updated state. A back buffer exists only for tensors that some program updates: a
 * state that is only evaluated costs its own size once.
 *
 * A program that promises `updatesInPlace` has no back buffers where the engine can do without. If such a run fails,
 * what it was updating is lost: it can be neither read nor used until it has been written again. So it is when writing
 * a state fails, which replaces one tensor after the other because there may be no room for all of them twice.
 */
import { GroundswellError, messageOf, takingTurns, takingTurnsUntil } from '../core/index.ts'
import type { EmittedProgram, TensorSpec } from '../tensor/index.ts'
import { checkInputs, checkState, checkValues } from './checks.ts'
import type { Engine, Session } from './engine.ts'
import type { Backend, Executable, HostTensor, State } from './types.ts'

/** Runs tasks one after the other, whatever becomes of each. */
function queue(): <T>(task: () => Promise<T>) => Promise<T> {
  let tail: Promise<unknown> = Promise.resolve()
  return (task) => {
    const result = tail.then(task, task)
    tail = result.catch(() => undefined)
    return result
  }
}

const disposed = (what: string): GroundswellError =>
  new GroundswellError(`${what} was used after it had been disposed of.`, { code: 'runtime/disposed' })

/** Refuses tensors of a state that a failed run or write left half updated. */
function refuseLost(what: string, names: readonly string[], lost: ReadonlyMap<string, string>): void {
  const name = names.find((candidate) => lost.has(candidate))
  if (name === undefined) return
  throw new GroundswellError(`${what} needs “${name}” of the state, which was lost when ${lost.get(name)}.`, {
    code: 'runtime/state-lost',
    remedy: 'Write the state again, as from the last checkpoint.',
  })
}

export function backendOver<Buffer>(engine: Engine<Buffer>): Backend {
  // Engines are not re-entrant, and runs on one state must not overlap; one line for all of it is enough, because
  // a run uses all threads anyway.
  const inTurn = queue()
  const open = new Set<AsyncDisposable>()
  let closed = false

  class ResidentState implements State {
    readonly specs: Readonly<Record<string, TensorSpec>>
    readonly front: Map<string, Buffer>
    readonly spare: Map<string, Buffer> = new Map()
    /** Tensors that hold nothing sensible, with what happened to them. */
    readonly lost: Map<string, string> = new Map()
    isDisposed = false

    constructor(specs: Readonly<Record<string, TensorSpec>>, front: Map<string, Buffer>) {
      this.specs = specs
      this.front = front
    }

    read(names: readonly string[] = Object.keys(this.specs)): Promise<Record<string, HostTensor>> {
      return inTurn(async () => {
        if (this.isDisposed) throw disposed('A state')
        refuseLost('Reading', names, this.lost)
        const values: Record<string, HostTensor> = {}
        const pause = takingTurns()
        for (const name of names) {
          await pause()
          const buffer = this.front.get(name)
          if (buffer === undefined) {
            throw new GroundswellError(`The state has no tensor “${name}”.`, {
              code: 'runtime/state',
              remedy: `It has ${Object.keys(this.specs).join(', ')}.`,
            })
          }
          values[name] = await engine.download(buffer, this.specs[name]!)
        }
        return values
      })
    }

    write(values: Readonly<Record<string, HostTensor>>): Promise<void> {
      return inTurn(async () => {
        if (this.isDisposed) throw disposed('A state')
        checkValues(values, this.specs)
        const pause = takingTurns()
        try {
          for (const [name, value] of Object.entries(values)) {
            await pause()
            const old = this.front.get(name)!
            this.front.set(name, await engine.upload(value))
            this.lost.delete(name)
            await engine.release(old)
          }
        } catch (thrown) {
          // Some are new and some old, which nobody may take for one state.
          for (const name of Object.keys(values)) this.lost.set(name, 'writing it failed')
          throw thrown
        }
      })
    }

    [Symbol.asyncDispose](): Promise<void> {
      return inTurn(async () => {
        if (this.isDisposed) return
        this.isDisposed = true
        open.delete(this)
        for (const buffer of [...this.front.values(), ...this.spare.values()]) await engine.release(buffer)
        this.front.clear()
        this.spare.clear()
      })
    }
  }

  class LoadedExecutable implements Executable {
    readonly program: EmittedProgram
    readonly compileMs: number
    private readonly session: Session<Buffer>
    private isDisposed = false

    constructor(program: EmittedProgram, compileMs: number, session: Session<Buffer>) {
      this.program = program
      this.compileMs = compileMs
      this.session = session
    }

    run(state: State, inputs: Readonly<Record<string, HostTensor>>): Promise<Record<string, HostTensor>> {
      return inTurn(async () => {
        const { program } = this
        if (this.isDisposed) throw disposed(`Program “${program.name}”`)
        if (!(state instanceof ResidentState)) {
          throw new GroundswellError(`Program “${program.name}” was given a state of another backend.`, {
            code: 'runtime/state',
            remedy: `Create the state with the same ${engine.name} backend that compiled the program.`,
          })
        }
        if (state.isDisposed) throw disposed('A state')
        checkInputs(program, inputs)
        checkState(program, state.specs)
        refuseLost(`Program “${program.name}”`, Object.keys(program.state), state.lost)
        const inPlace = program.updatesInPlace === true && engine.overwritesState
        const { outputs, updated } = await this.session
          .run({ inputs, state: state.front, spare: inPlace ? state.front : state.spare })
          .catch((cause: unknown) => {
            const message = `Program “${program.name}” failed on the ${engine.name} backend: ${messageOf(cause)}`
            const updates = Object.keys(program.updates)
            if (!inPlace || updates.length === 0) {
              throw new GroundswellError(message, { code: 'runtime/run', cause })
            }
            const what = `program “${program.name}” failed while it updated it in place`
            for (const name of updates) state.lost.set(name, what)
            throw new GroundswellError(`${message} The state that it was updating in place is lost.`, {
              code: 'runtime/run',
              cause,
              remedy: 'Write the state again, as from the last checkpoint.',
            })
          })
        if (inPlace) return outputs
        for (const [name, buffer] of updated) {
          const replaced = state.front.get(name)!
          if (engine.writesWhereTold) state.spare.set(name, replaced)
          else await engine.release(replaced)
          state.front.set(name, buffer)
        }
        return outputs
      })
    }

    [Symbol.asyncDispose](): Promise<void> {
      return inTurn(async () => {
        if (this.isDisposed) return
        this.isDisposed = true
        open.delete(this)
        await this.session.close()
      })
    }
  }

  return {
    name: engine.name,
    place: engine.name === 'cpu' || engine.name === 'wasm' ? 'processor' : 'device',
    dialect: engine.dialect,
    threads: engine.threads,
    compile: (program) =>
      inTurn(async () => {
        if (closed) throw disposed(`The ${engine.name} backend`)
        if (program.dialect !== 'portable' && program.dialect !== engine.dialect) {
          throw new GroundswellError(
            `Program “${program.name}” is written in the dialect “${program.dialect}”, which the ${engine.name} backend does not run.`,
            { code: 'runtime/dialect', remedy: `Emit it as “${engine.dialect}”.` },
          )
        }
        const started = performance.now()
        const session = await engine.load(program).catch((cause: unknown) => {
          throw new GroundswellError(
            `Program “${program.name}” cannot be compiled on the ${engine.name} backend: ${messageOf(cause)}`,
            { code: 'runtime/compile', cause },
          )
        })
        const executable = new LoadedExecutable(program, performance.now() - started, session)
        open.add(executable)
        return executable
      }),
    createState: (values, { signal } = {}) =>
      inTurn(async () => {
        if (closed) throw disposed(`The ${engine.name} backend`)
        checkValues(values)
        const front = new Map<string, Buffer>()
        const specs: Record<string, TensorSpec> = {}
        const pause = takingTurnsUntil(signal)
        try {
          for (const [name, value] of Object.entries(values)) {
            await pause()
            specs[name] = { dtype: value.dtype, shape: [...value.shape] }
            front.set(name, await engine.upload(value))
          }
        } catch (thrown) {
          for (const buffer of front.values()) await engine.release(buffer)
          throw thrown
        }
        const state = new ResidentState(specs, front)
        open.add(state)
        return state
      }),
    [Symbol.asyncDispose]: async () => {
      if (closed) return
      closed = true
      for (const resource of open) await resource[Symbol.asyncDispose]()
      await inTurn(() => engine.close())
    },
  }
}
