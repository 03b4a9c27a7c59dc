/** What commander makes of each command's options, by their names in camel case. */

export interface DemoCommandLine {
  readonly data?: string
  readonly out?: string
  readonly rounds?: number
}

/** One of `replicas` disjoint shares of the training data. */
export interface DataShare {
  readonly replica: number
  readonly replicas: number
}

/** Of what others reach over the network. */
interface ReachableCommandLine {
  readonly listen?: readonly string[]
  readonly announce?: readonly string[]
  readonly metrics?: string
  readonly home?: string
}

/** Of what computes, where no run file says with what. */
interface ComputingCommandLine {
  readonly backend: string
  readonly threads: number
}

export interface TrainCommandLine {
  readonly data?: string
  readonly steps?: number
  readonly batchSize?: number
  readonly sequenceLength?: number
  readonly backend?: string
  readonly threads?: number
  readonly out?: string
  readonly restart?: boolean
  readonly share?: DataShare
}

export interface HostCommandLine extends Omit<TrainCommandLine, 'restart' | 'share'>, ReachableCommandLine {
  readonly relay?: readonly string[]
  readonly also?: readonly string[]
  readonly up?: string
  readonly down?: string
  readonly log?: string
  readonly identity?: string
  readonly owner?: readonly string[]
  readonly host?: string
  readonly port?: number
}

export interface StatusCommandLine {
  readonly watch?: boolean
}

export interface ContributionsCommandLine {
  readonly peer?: string
  readonly csv?: string
}

/** Times in seconds. */
export interface LimitsCommandLine {
  readonly rounds?: number
  readonly minimumPeers?: number
  readonly maximumPeers?: number
  readonly quorum?: number
  readonly warmup?: number
  readonly grace?: number
  readonly graceShare?: number
  readonly maxRound?: number
  readonly vanishAfter?: number
}

export interface ReplayCommandLine {
  readonly from?: number
  readonly to?: number
  readonly peer?: string
}

export interface RelayCommandLine extends ReachableCommandLine {
  readonly port: number
  readonly bytesPerDay?: number
  readonly rate?: number
  readonly reservations?: number
}

export interface JoinCommandLine extends ReachableCommandLine, ComputingCommandLine {
  readonly relay?: readonly string[]
  readonly up?: number
  readonly down?: number
  readonly name?: string
  readonly out?: string
}

export interface GenerateCommandLine extends ComputingCommandLine {
  readonly tokens: number
  readonly temperature: number
  readonly topK?: number
  readonly topP?: number
  readonly seed: number
}

export interface ScoreCommandLine extends ComputingCommandLine {
  readonly text?: string
  readonly file?: string
}

export interface ExportCommandLine {
  readonly out: string
  readonly dtype: string
}

export interface InitCommandLine {
  readonly data: string
}

export interface SimulateCommandLine extends ComputingCommandLine {
  readonly peers?: number
  readonly rounds: number
  readonly seed: number
  readonly method: string
  readonly innerSteps?: number
  readonly parameters?: number
  readonly methodBytes?: number
  readonly stepMs: number
  readonly speedSpread: number
  readonly up: number
  readonly down: number
  readonly hostUp: number
  readonly hostDown: number
  readonly reachable: number
  readonly latency: number
  readonly churn: number
  readonly drop: number
  readonly quorum: number
  readonly grace: number
  readonly staleness: number
  readonly train: 'none' | 'toy' | 'llama'
  readonly data?: string
  readonly trace?: string
}
