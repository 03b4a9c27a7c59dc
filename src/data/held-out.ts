/**
 * Which text is kept out of training to measure with. The hash of the text and of a seed decides, so that the answer
 * depends on no order and no list, equal texts share one fate, and adding a document changes nothing for the others.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import { encodeCanonical, GroundswellError } from '../core/index.ts'
import type { Document } from './documents.ts'

export interface HoldOutRule {
  readonly seed: number
  /** Share of the text to hold out, from 0 (none) to below 1. */
  readonly fraction: number
}

/** Whether the hash holds this text out. */
export function heldOut(document: Pick<Document, 'text'>, rule: HoldOutRule): boolean {
  return lotOf(document.text, rule.seed) < rule.fraction
}

export interface SplitCorpus {
  /** Runs of text, each in one piece in its document. */
  readonly train: readonly string[]
  readonly validation: readonly string[]
}

/** Blocks of a cut document are this many characters long, or a 16th of the share to hold out if that lies between. */
const blockCharacters = { least: 256, most: 8192 }

/**
 * Divides documents into text to train on and text to measure with. A document that would by itself outweigh the share
 * to hold out is cut into blocks at line ends, of which each is decided like a document; so a single file, too, can be
 * held out from in part. Unless the fraction is 0 there is always text on both sides: if the lots fell all on one side,
 * the unit with the lowest lot is held out, or that with the highest trained on.
 * @throws GroundswellError `data/fraction`; `data/too-small` when there is too little text to divide
 */
export function splitHeldOut(documents: readonly Document[], rule: HoldOutRule): SplitCorpus {
  const { fraction, seed } = rule
  if (!(fraction >= 0 && fraction < 1)) {
    throw new GroundswellError(`The fraction of text to hold out must lie in [0, 1), got ${fraction}.`, {
      code: 'data/fraction',
      remedy: 'Use a fraction such as 0.05.',
    })
  }
  if (fraction === 0) return { train: documents.map((document) => document.text), validation: [] }
  const total = documents.reduce((sum, document) => sum + document.text.length, 0)
  const share = total * fraction
  const block = Math.round(Math.min(Math.max(share / 16, blockCharacters.least), blockCharacters.most))
  const cut = documents.map(({ text }) => (text.length > share ? blocksOf(text, block) : [text]))
  const lots = cut.map((units) => units.map((unit) => lotOf(unit, seed)))
  const isHeldOut = decide(lots, fraction)
  const train: string[] = []
  const validation: string[] = []
  for (const [d, units] of cut.entries()) {
    // Neighbouring blocks on the same side stay one run of text.
    for (let u = 0; u < units.length; ) {
      const side = isHeldOut(d, u)
      let run = ''
      for (; u < units.length && isHeldOut(d, u) === side; u++) run += units[u]!
      ;(side ? validation : train).push(run)
    }
  }
  return { train, validation }
}

/** The lots against the fraction, corrected if that leaves one side empty. */
function decide(
  lots: readonly (readonly number[])[],
  fraction: number,
): (document: number, unit: number) => boolean {
  let lowest = 1
  let highest = 0
  for (const units of lots) {
    for (const lot of units) {
      lowest = Math.min(lowest, lot)
      highest = Math.max(highest, lot)
    }
  }
  if (lowest === highest) return byPosition(lots, fraction)
  const limit = Math.min(Math.max(fraction, lowest + Number.EPSILON), highest)
  return (document, unit) => lots[document]![unit]! < limit
}

/** All units are the same text, as in a file of one line over and over: then only places can be held out. */
function byPosition(
  lots: readonly (readonly number[])[],
  fraction: number,
): (document: number, unit: number) => boolean {
  const count = lots[0]?.length ?? 0
  if (count < 2) {
    throw new GroundswellError('There is too little text to hold any out for validation.', {
      code: 'data/too-small',
      remedy: 'Give more text.',
    })
  }
  const heldOutUnits = Math.min(Math.max(Math.round(count * fraction), 1), count - 1)
  return (_document, unit) => unit < heldOutUnits
}

/** Pieces of about `length` characters that end where a line does, or a word, or at least a character. */
function blocksOf(text: string, length: number): string[] {
  const blocks: string[] = []
  for (let start = 0; start < text.length; ) {
    const end = blockEnd(text, start, length)
    blocks.push(text.slice(start, end))
    start = end
  }
  return blocks
}

function blockEnd(text: string, start: number, length: number): number {
  if (text.length - start < length * 1.5) return text.length
  const earliest = start + length
  const window = text.slice(earliest - 1, start + length * 2)
  for (const separator of ['\n', ' ']) {
    const found = window.indexOf(separator)
    if (found >= 0) return earliest + found
  }
  const unit = text.charCodeAt(earliest)
  return unit >= 0xdc00 && unit <= 0xdfff ? earliest + 1 : earliest
}

/** A number in [0, 1) from the text and the seed: the first 48 bits of their SHA-256. */
function lotOf(text: string, seed: number): number {
  const digest = sha256(encodeCanonical(['held-out', seed, sha256(new TextEncoder().encode(text))]))
  let lot = 0
  for (let i = 0; i < 6; i++) lot = lot * 256 + digest[i]!
  return lot / 2 ** 48
}
