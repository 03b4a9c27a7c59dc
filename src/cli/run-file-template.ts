/**
 * The run file that `init` writes: every key with its meaning, at its default. The values are read from the
 * defaults themselves, so the two cannot drift apart.
 */
import type { SyncSettings } from '../sync/index.ts'
import { defaultRunFile } from './run-file.ts'

export function runFileTemplate(options: { name: string; data: string }): string {
  const { model, tokenizer, data, training, sync, run, runtime, seed } = defaultRunFile()
  const { optimiser, schedule } = training
  return `# A run of Groundswell. Every key is optional; what stands here are the defaults, except run.name and data.path.
#   groundswell train THIS_FILE     trains on this machine alone
#   groundswell host THIS_FILE      coordinates a swarm and prints the link to join it

model: # a Llama, as transformers defines it
  # checkpoint: ./some/checkpoint # go on from this one; its shape and tokenizer then count
  layers: ${model.layers}
  hiddenSize: ${model.hiddenSize}
  intermediateSize: ${model.intermediateSize}
  attentionHeads: ${model.attentionHeads} # must divide hiddenSize
  keyValueHeads: ${model.attentionHeads} # must divide attentionHeads; fewer of them is grouped-query attention
  ropeTheta: ${model.ropeTheta}
  rmsNormEpsilon: ${model.rmsNormEpsilon}
  tieWordEmbeddings: ${model.tieWordEmbeddings}
  maxPositionEmbeddings: ${model.maxPositionEmbeddings}

tokenizer:
  kind: ${tokenizer.kind} # bytes, or bpe: byte-level BPE trained on the data
  vocabularySize: ${tokenizer.vocabularySize} # of bpe; bytes know 256

data:
  path: ${JSON.stringify(options.data)} # a folder or file of .txt, .md, source code or .jsonl
  field: ${data.field} # what holds the text in a line of .jsonl
  heldOutFraction: ${data.heldOutFraction} # share of the documents kept for validation, chosen by their hash

training:
  steps: ${training.steps}
  batchSize: ${training.batchSize}
  sequenceLength: ${training.sequenceLength}
  gradientAccumulation: ${training.gradientAccumulation} # batches that make one step
  optimiser:
    kind: ${optimiser.kind} # adamw, or muon for the hidden matrices
    learningRate: ${optimiser.learningRate} # the peak
    weightDecay: ${optimiser.weightDecay}
    beta1: ${optimiser.beta1}
    beta2: ${optimiser.beta2}
    epsilon: ${optimiser.epsilon}
    muonMomentum: ${optimiser.muonMomentum} # of muon
    clipNorm: ${optimiser.clipNorm} # of the whole gradient; 0 for none
    decayNorms: ${optimiser.decayNorms}
    decayEmbeddings: ${optimiser.decayEmbeddings}
  schedule:
    kind: ${schedule.kind} # cosine, wsd (warm-up, stable, decay) or constant
    warmupSteps: ${schedule.warmupSteps}
    finalFraction: ${schedule.finalFraction} # of the peak
    decaySteps: ${schedule.decaySteps} # of wsd
    decayShape: ${schedule.decayShape} # of wsd: one-minus-sqrt or linear
  evaluateEvery: ${training.evaluateEvery} # steps; 0 for only at the end
  evaluationBatches: ${training.evaluationBatches}
  checkpointEvery: ${training.checkpointEvery} # steps; 0 for only at the end

sync: # between the peers of a swarm; docs/methods.md has the other methods
${linesOf(sync)}

run: # of the host
  name: ${options.name}
  host: ${run.host} # address to listen on; 0.0.0.0 for all
  port: ${run.port} # 0 for any free one
  minimumPeers: ${run.minimumPeers} # training starts when so many have joined
  maximumPeers: ${run.maximumPeers}
  quorum: ${run.quorum} # share of the active peers that is enough to close a round…
  graceSeconds: ${run.graceSeconds} # …once the others had so long to follow…
  graceShare: ${run.graceShare} # …and at least this share of the time that the quorum took
  maxRoundSeconds: ${run.maxRoundSeconds} # a round closes after so long with whatever it has
  # vanishAfterSeconds: 15 # silence after which a peer counts as gone; unless stated 15 and one more per 5M parameters
  warmupSeconds: ${run.warmupSeconds} # once enough are ready, how long to wait for those who still fetch what they need
  maximumStaleness: ${run.maximumStaleness} # by so many rounds an update may be late and still count, for less
  maximumSpeedup: ${run.maximumSpeedup} # a fast peer gets at most so many times the steps of the median one
  rewarmSteps: ${run.rewarmSteps} # over so many steps the learning rate rises again after everybody had gone
  maximumStrikes: ${run.maximumStrikes} # after so many refused updates in a row a peer is expelled…
  expulsionRounds: ${run.expulsionRounds} # …for so many rounds
  maximumNormFactor: ${run.maximumNormFactor} # an update so many times larger than the median is refused
  # listen: [/ip4/0.0.0.0/tcp/4001] # instead of host and port
  # announce: [/ip4/192.0.2.7/tcp/4001] # what others are told, as behind a port forward
  # relays: [/ip4/192.0.2.8/tcp/4001/p2p/12D3KooW…] # through which this host is reached
  # also: [/ip4/192.0.2.9/tcp/4001] # where a second host of this run is reached
  # up: 10Mb/s # most to send; 2MB/s are bytes
  # down: 100Mb/s # most to receive
  # metrics: 9464 # for Prometheus; on loopback unless ADDRESS:PORT
  # log: nats://HOST:4222 # log and blobs there, so that another host can take over
  # owners: [12D3KooW…] # who may pause, end and change the run besides the host's own owner.pem

runtime:
  backend: ${runtime.backend} # auto, cpu, cuda, webgpu or wasm
  threads: ${runtime.threads} # 0 for as many as there are cores

seed: ${seed}
# out: ./checkpoints/${options.name} # where the checkpoint goes
`
}

const syncRemarks: Readonly<Record<string, string>> = {
  innerSteps: 'steps that each peer takes on its own in a round',
  encoding: 'float32, float16, int8, fp4-e3m0 or int2',
}

function linesOf(settings: SyncSettings): string {
  return Object.entries(settings)
    .map(([key, value]) => {
      const remark = syncRemarks[key]
      return `  ${key}: ${value}${remark === undefined ? '' : ` # ${remark}`}`
    })
    .join('\n')
}
