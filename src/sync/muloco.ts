/**
 * MuLoCo (Thérien et al. 2025, https://arxiv.org/abs/2505.23725): DiLoCo whose inner optimiser is Muon (train/muon.ts).
 * Muon's pseudo-gradients stand being cut down to two bits per parameter, as long as what the encoding loses is remembered
 * and sent later. The inner optimiser is a setting of the training; what is exchanged is DiLoCo's, under a name of its own,
 * so that a run says what it is.
 */
import { plainAverage } from './aggregate.ts'
import {
  averagedPseudoGradients,
  type DilocoLocal,
  type DilocoOptions,
  type DilocoState,
  type DilocoUpdate,
} from './diloco.ts'
import type { SyncMethod } from './method.ts'

export const muloco = (options: DilocoOptions): SyncMethod<DilocoState, DilocoLocal, DilocoUpdate> =>
  averagedPseudoGradients('muloco', options, () => plainAverage)
