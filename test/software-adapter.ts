/**
 * A software adapter for WebGPU: the one that Debian's chromium brings along (SwiftShader), where no other is named. The
 * variable must be set before a process asks for its first adapter.
 */
import { existsSync } from 'node:fs'

const softwareAdapter = '/usr/lib/chromium/vk_swiftshader_icd.json'

export function useSoftwareAdapter(): void {
  if (existsSync(softwareAdapter)) process.env.VK_ICD_FILENAMES ??= softwareAdapter
}
