/**
 * The mean gradient of a batch as a program of its own, on the parameters that the training step keeps resident: for
 * methods that exchange gradients instead of parameters. It changes nothing.
 */
import { type LlamaConfig, llamaWeights, type Parameters, parametersOf } from '../model/index.ts'
import type { Backend, Executable, HostTensor, State } from '../runtime/index.ts'
import { defineProgram, emitOnnx, type Program } from '../tensor/index.ts'
import { type BatchOptions, gradientsOf, lossOfBatch } from './step.ts'

/** Input: `tokens` int32 [batchSize, sequenceLength + 1]. Outputs: `loss`, and `gradients.NAME` for every parameter. */
export function buildGradients(options: BatchOptions): Program {
  const weights = llamaWeights(options.config)
  const { tokens, loss } = lossOfBatch(options, weights)
  const gradients = gradientsOf(loss, weights)
  return defineProgram({
    name: 'llama-gradients',
    inputs: { tokens },
    state: weights,
    outputs: {
      loss,
      ...Object.fromEntries(Object.keys(weights).map((name, i) => [`gradients.${name}`, gradients[i]!])),
    },
    updates: {},
  })
}

export function compileGradients(backend: Backend, options: BatchOptions): Promise<Executable> {
  return backend.compile(emitOnnx(buildGradients(options), { dialect: backend.dialect }))
}

/** Loss and gradient by Hugging Face names, meant over as many batches as the tokens hold. */
export async function gradientsAt(
  executable: Executable,
  state: State,
  config: LlamaConfig,
  tokens: Int32Array,
): Promise<{ loss: number; gradient: Parameters }> {
  const { shape } = executable.program.inputs.tokens!
  const length = shape.reduce((product, size) => product * size, 1)
  const batches = tokens.length / length
  let loss = 0
  const sums: Record<string, HostTensor> = {}
  for (let start = 0; start < tokens.length; start += length) {
    const data = tokens.subarray(start, start + length)
    const outputs = await executable.run(state, { tokens: { dtype: 'int32', shape, data } })
    loss += outputs.loss!.data[0]! / batches
    for (const [name, tensor] of Object.entries(outputs)) {
      if (!name.startsWith('gradients.')) continue
      const sum = sums[name]?.data ?? new Float32Array(tensor.data.length)
      for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + tensor.data[i]! / batches
      sums[name] = { ...tensor, data: sum as Float32Array }
    }
  }
  const resident = Object.fromEntries(
    Object.entries(sums).map(([name, sum]) => [name.slice('gradients.'.length), sum]),
  )
  return { loss, gradient: parametersOf(config, resident) }
}
