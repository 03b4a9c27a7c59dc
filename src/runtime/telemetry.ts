/**
 * Since 1.30 the published libraries of ONNX Runtime send events about sessions, models and errors to their maker, also
 * on Linux and macOS, and keep an identifier of the machine on its disk, unless a variable of the environment says
 * otherwise before they are first used (https://github.com/microsoft/onnxruntime/pull/27379). Who trains with strangers
 * on data of their own does not expect that, so it is off; whoever sets the variable keeps what they set.
 */
export function disableTelemetry(): void {
  const environment = globalThis.process?.env
  if (environment !== undefined) environment.ORT_DISABLE_TELEMETRY ??= '1'
}
