/** What there is to say of a skill in a list. */
export const remark = (
  state: { readonly status: string; readonly detail?: string | undefined } | undefined
): string => {
  const why = state?.detail === undefined ? "" : `: ${state.detail}`
  switch (state?.status) {
    case "absent":
      return "not prepared; see skillscale skills prepare"
    case "preparing":
      return `being prepared${why}`
    case "failed":
      return `failed${why}`
    default:
      return ""
  }
}
